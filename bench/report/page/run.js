// The runs behind a cell or a row: seeds, curves, hyper-parameters, costs, failures, provenance, and the command.
bench.run = (() => {
  const { el, svg, fixed, human, three, plainTable } = bench.dom;
  const { state, model } = bench;
  const { get } = model;
  const SEEDS = ["#1b5e9b", "#b3400b", "#1d6b3a", "#7a3a8c", "#8a5a00", "#3d3d3d"];

  function find(cell) {
    const at = cell.lastIndexOf("@");
    const [name, key] = [cell.slice(0, at), cell.slice(at + 1)];
    const r = state.shown().rows.find((row) => `${row.row.method}:${row.row.variant}` === name);
    return r ? { r, key, dataset: model.keysOf(state.board().groups).indexOf(key) } : null;
  }

  // Curves of the runs, one line a seed; a number an epoch.
  function curves(runs, name, title) {
    const lines = runs.map((run) => [get(run, "seed"), get(run, name)]).filter(([, values]) => values.some((v) => v !== null));
    if (!lines.length) return null;
    const [width, height, left, bottom, top] = [420, 180, 70, 26, 22];
    const all = lines.flatMap(([, values]) => values).filter((v) => v !== null);
    let [low, high] = [Math.min(...all), Math.max(...all)];
    if (low === high) [low, high] = [0.9 * low - 1e-9, 1.1 * high + 1e-9];
    const steps = Math.max(...lines.map(([, values]) => values.length));
    const x = (i) => left + (steps < 2 ? 0.5 : i / (steps - 1)) * (width - left - 8);
    const y = (v) => top + (1 - (v - low) / (high - low)) * (height - top - bottom);
    return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "curve", role: "img", "aria-label": title },
      svg("text", { x: 4, y: 13, class: "strong", text: title }),
      [low, high].map((v) => svg("text", { x: left - 5, y: y(v) + 4, "text-anchor": "end", text: Math.abs(v) > 0 && Math.abs(v) < 1e-3 ? v.toExponential(1) : Number(v.toPrecision(3)) })),
      svg("line", { x1: left, x2: width - 8, y1: height - bottom, y2: height - bottom, class: "axis" }),
      svg("text", { x: width - 8, y: height - 8, "text-anchor": "end", text: "epochs" }),
      lines.map(([seed, values], n) => [
        svg("polyline", { fill: "none", stroke: SEEDS[n % SEEDS.length], "stroke-width": 1.6,
          points: values.map((v, i) => (v === null ? "" : `${x(i)},${y(v)}`)).filter(Boolean).join(" ") }),
        svg("text", { x: width - 8, y: 13 + 12 * n, "text-anchor": "end", fill: SEEDS[n % SEEDS.length], text: `seed ${seed}` }),
      ]));
  }

  function seedTable(runs, keys, several) {
    const heads = [...(several ? ["dataset"] : []), "seed", "status", "accuracy %", "validation %", "training s", "attempts", "made", "digest"];
    return plainTable(heads, runs.map((run) => [
      ...(several ? [keys[get(run, "dataset")]] : []),
      String(get(run, "seed")), get(run, "status"),
      fixed(2)(get(run, "score") === null ? NaN : 100 * get(run, "score")),
      fixed(2)(get(run, "val") === null ? NaN : 100 * get(run, "val")),
      three(get(run, "train_seconds")), String(get(run, "attempts")), get(run, "started").slice(0, 16).replace("T", " "), get(run, "digest"),
    ]));
  }

  function failures(runs, keys) {
    const bad = runs.filter((run) => get(run, "status") !== "done");
    return bad.length ? [el("h3", { text: "What did not finish" }), el("ul", {}, bad.map((run) =>
      el("li", {}, `${keys[get(run, "dataset")]}, seed ${get(run, "seed")}: ${get(run, "status")}${get(run, "failure") ? ` (${get(run, "failure")})` : ""}. `,
        el("span", { class: "code", text: get(run, "reason") }))))] : null;
  }

  function costs(r, runs) {
    const done = runs.filter((run) => get(run, "status") === "done");
    if (!done.length) return null;
    const found = model.costsOf((measure) => model.meanOver(done, measure));
    return [el("h3", { text: "Costs, means of these runs" }), plainTable(["cost", "value"],
      Object.entries(model.COSTS).map(([name, cost]) => [cost.label, bench.dom[cost.show](found[name])]))];
  }

  // MiMi's cycles and the like: what the model scored and what was left of it after each phase.
  function milestones(runs) {
    const all = runs.flatMap((run) => get(run, "milestones").map((m) => [get(run, "seed"), ...m]));
    return all.length ? [el("h3", { text: "After each phase of training" }), plainTable(["phase", "seed", "epoch", "accuracy %", "trained parameters"],
      all.map(([seed, name, epoch, score, left]) => [name, String(seed), String(epoch), fixed(2)(100 * score), human(left)]))] : null;
  }

  function trials(runs) {
    const all = runs.flatMap((run) => get(run, "trials").map((t) => [get(run, "seed"), ...t]));
    return all.length ? [el("h3", { text: "Trials of the search" }), plainTable(["learning rate", "seed", "weight decay", "validation %"],
      all.map(([seed, lr, decay, val]) => [String(lr), String(seed), String(decay), val === null ? "diverged" : fixed(2)(100 * val)]))] : null;
  }

  function provenance(runs) {
    const places = [...new Set(runs.map((run) => get(run, "provenance")))];
    return [el("h3", { text: "Where it comes from" }), places.map((place) => {
      const p = model.data.provenance[place];
      const of = runs.filter((run) => get(run, "provenance") === place).length;
      const entries = Object.entries(p).filter(([, value]) => value !== null).map(([name, value]) =>
        [name === "code" ? "commit" : name.replaceAll("_", " "), name === "versions" ? Object.entries(value).map(([k, v]) => `${k} ${v}`).join(", ") : String(value)]);
      return el("details", { open: places.length === 1 }, el("summary", { text: `${of} of ${runs.length} runs: commit ${p.code || "unknown"}, ${p.device_name}` }), definitions(entries));
    })];
  }

  const definitions = (entries) => el("dl", {}, entries.map(([name, value]) => [el("dt", { text: name }), el("dd", { class: "code", text: value })]));
  const plain = (value) => (Array.isArray(value) ? value.join("+") : value === null ? "none" : String(value));

  function command(r, runs, key) {
    const seeds = [...new Set(runs.map((run) => get(run, "seed")))].sort((a, b) => a - b);
    const { suite, data: own } = state.board();
    const data = own ? own : key ? `--dataset ${suite}/${key}` : `--suite ${suite}`;
    return `${r.row.command} ${data} --seeds ${seeds.join(",")}`;
  }

  function content(cell) {
    const found = find(cell);
    if (!found) return [el("h2", { id: "panel-title", text: "No such row here" })];
    const { r, key, dataset } = found;
    const keys = model.keysOf(state.board().groups);
    const runs = r.row.runs.filter((run) => !key || get(run, "dataset") === dataset);
    const { name: protocol, ...rest } = state.board().protocol;
    return [
      el("h2", { id: "panel-title", text: key ? `${r.label} on ${key}` : r.label }),
      el("p", { class: "note", text: `${r.row.family}, version ${r.row.version}; ${state.backbone().name}, ${protocol}` }),
      el("p", {}, el("button", { id: "compare-this", text: "Compare with another row", onclick: () => state.set({ cell: "", view: "compare", a: `${r.row.method}:${r.row.variant}` }) })),
      el("h3", { text: "Command" }), el("pre", { id: "command", tabindex: 0, text: command(r, runs, key) }),
      key ? el("div", { class: "curves" }, curves(runs, "loss", "training loss"), curves(runs, "val_curve", "validation accuracy"), curves(runs, "lr", "learning rate")) : null,
      seedTable(runs, keys, !key), failures(runs, keys), milestones(key ? runs : []), trials(key ? runs : []), costs(r, runs),
      el("h3", { text: "Hyper-parameters" }), definitions([...Object.entries(r.row.params).map(([k, v]) => [k, plain(v)])]),
      el("details", {}, el("summary", { text: `Protocol ${protocol}` }), definitions(Object.entries(rest).filter(([, v]) => v !== null).map(([k, v]) => [k.replaceAll("_", " "), plain(v)]))),
      provenance(runs),
    ];
  }

  function draw() {
    const panel = document.getElementById("panel");
    const { cell } = state.get();
    if (!cell) { if (panel.open) panel.close(); return; }
    panel.replaceChildren(el("button", { class: "close", "aria-label": "Close", text: "×", onclick: () => panel.close() }), ...content(cell).flat(Infinity).filter(Boolean));
    panel.onclose = () => { if (state.get().cell) state.set({ cell: "" }); };
    if (!panel.open) panel.showModal();
    panel.scrollTop = 0;
  }

  return { draw, command, find };
})();
