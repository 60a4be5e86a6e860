// The leaderboard: sorted, filtered, with the columns asked for; a cell opens its runs.
bench.table = (() => {
  const { el, DASH, missing, one, three } = bench.dom;
  const { state, model } = bench;
  const USUAL = ["params_trained", "gflops_unmerged", "storage_mb", "pe", "seeds"];

  const EXTRA = {
    family: { label: "family", value: (r) => r.row.family, text: true },
    pe: { label: "PE", value: (r) => r.pe, show: bench.dom.fixed(3), more: true, title: model.data.meanings.pe },
    seeds: { label: "n", value: (r) => r.seeds, show: String, more: true, title: "finished seeds: the fewest over the datasets" },
    coverage: { label: "coverage", value: (r) => r.coverage, show: (x) => `${Math.round(100 * x)} %`, more: true },
    failed: { label: "failed", value: (r) => r.failed, show: String },
  };

  const optional = () => ({
    ...Object.fromEntries(Object.entries(model.COSTS).map(([name, cost]) =>
      [name, { label: cost.label, value: (r) => r.costs[name], show: bench.dom[cost.show], more: cost.more, title: model.data.meanings[name] }])),
    ...EXTRA,
  });

  const chosenColumns = () => (state.get().cols ? state.get().cols.split(",").filter((c) => c in optional()) : USUAL);

  const rankText = (r) => (missing(r.best) ? DASH : r.best === r.worst ? String(r.best) : `${r.best}–${r.worst}`);

  function meanText(r) {
    if (missing(r.mean)) return r.coverage ? `${one(r.bound[0])} to ${one(r.bound[1])}` : DASH;
    return missing(r.low) ? one(r.mean) : `${one(r.mean)} ± ${one((r.high - r.low) / 2)}`;
  }

  function cellText(r, d) {
    const cell = r.cells[d];
    const failed = r.failures.has(d);
    if (missing(cell.value)) return failed ? "failed" : DASH;
    return one(cell.value) + (failed ? "†" : "");
  }

  // Every column in its order: key, label, what it sorts by, and the cell's content.
  function columns() {
    const keys = model.keysOf(state.board().groups);
    const seen = new Set(state.backbone().seen);
    const other = state.mean() === "mean_groups" ? "mean_datasets" : "mean_groups";
    const extra = optional();
    const { best } = state.shown();
    const group = (key) => Object.keys(state.board().groups).find((g) => state.board().groups[g].includes(key));
    return [
      { key: "rank", label: "rank", value: (r) => r.best, cell: rankText, title: "the ranks this row may have" },
      { key: "tie", label: "tie", value: (r) => r.tie, cell: (r) => (missing(r.tie) ? DASH : String(r.tie)), title: "tie group: rows of group 1 are not told apart from the first row" },
      { key: "mean", label: bench.main.MEANS[state.mean()], value: (r) => r.mean, cell: meanText, more: true, strong: (r) => r.tie === 1, under: (r) => r.tie === 2 },
      { key: other, label: bench.main.MEANS[other], value: (r) => r[other], cell: (r) => one(r[other]), more: true },
      ...state.chosen().map((d, place) => ({
        key: keys[d], label: keys[d] + (seen.has(d) ? "‡" : ""), group: group(keys[d]), dataset: d, more: true,
        value: (r) => r.cells[d].value, cell: (r) => cellText(r, d), strong: (r) => best[place].has(r.index),
      })),
      ...chosenColumns().map((name) => ({
        key: name, label: extra[name].label, value: extra[name].value, more: extra[name].more, text: extra[name].text, title: extra[name].title,
        cell: (r) => { const x = extra[name].value(r); return extra[name].text ? x : missing(x) ? DASH : extra[name].show(x); },
      })),
    ];
  }

  function sorted(rows, cols) {
    const { sort, down } = state.get();
    const column = cols.find((c) => c.key === sort) || (sort === "method" ? { value: (r) => r.label, text: true } : cols[2]);
    const sign = down ? -1 : 1;
    return [...rows].sort((a, b) => {
      const [x, y] = [column.value(a), column.value(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      return sign * (column.text ? x.localeCompare(y) : x - y) || a.index - b.index;
    });
  }

  function head(cols) {
    const { sort, down } = state.get();
    const cell = (key, label, title, more, kind) => el("th", { scope: "col", class: kind, "aria-sort": sort === key ? (down ? "descending" : "ascending") : null, title },
      el("button", { id: `sort-${key}`, text: label, onclick: () => state.set({ sort: key, down: sort === key ? (down ? "" : "1") : more ? "1" : "" }) }));
    const spans = [];
    for (const c of cols) {
      const last = spans[spans.length - 1];
      if (last && last[0] === (c.group || "")) last[1]++;
      else spans.push([c.group || "", 1]);
    }
    return el("thead", {},
      el("tr", { class: "groups" }, el("td", {}), spans.map(([name, n]) => (name ? el("th", { colspan: n, scope: "colgroup", text: name }) : el("td", { colspan: n })))),
      el("tr", {}, cell("method", "method", null, false, null), cols.map((c) => cell(c.key, c.label, c.title, c.more, c.text ? null : "number"))));
  }

  function body(rows, cols) {
    const open = (r, key) => () => state.set({ cell: `${r.row.method}:${r.row.variant}@${key}` }, true);
    const lines = rows.map((r) => el("tr", { class: missing(r.mean) ? "part" : null },
      el("th", { scope: "row" }, el("button", { tabindex: -1, text: r.label, onclick: open(r, "") })),
      cols.map((c) => {
        const kind = [c.text ? "" : "number", c.strong && c.strong(r) ? "first" : "", c.under && c.under(r) ? "second" : ""].join(" ").trim();
        const text = c.cell(r);
        return el("td", { class: kind, "data-column": c.key },
          c.dataset === undefined ? text : el("button", { tabindex: -1, text, "aria-label": `${r.label} on ${c.key}: ${text}`, onclick: open(r, c.key) }));
      })));
    const whole = el("tbody", { onkeydown: move }, lines);
    const first = whole.querySelector("button");
    if (first) first.tabIndex = 0;
    return whole;
  }

  // Arrow keys go from cell to cell; the tab key leaves the table.
  function move(event) {
    const steps = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
    const step = steps[event.key];
    if (!step || event.target.tagName !== "BUTTON") return;
    const cell = event.target.closest("td, th");
    const table = cell.closest("tbody");
    let [x, y] = [[...cell.parentNode.children].indexOf(cell), [...table.children].indexOf(cell.parentNode)];
    for (;;) {
      x += step[0];
      y += step[1];
      const next = table.children[y] && table.children[y].children[x];
      if (!next) return;
      const button = next.querySelector("button");
      if (!button) continue;
      event.preventDefault();
      event.target.tabIndex = -1;
      button.tabIndex = 0;
      button.focus();
      return;
    }
  }

  // Numbers that others print, in the places their means would have, without rank.
  function overlay(table, rows, cols) {
    const found = bench.reported.rows(state.board().suite, state.chosen(), state.mean());
    const lines = [...table.querySelectorAll("tbody tr")];
    for (const p of found) {
      const line = el("tr", { class: "reported" },
        el("th", { scope: "row" }, `${p.label} `, el("small", { text: `${p.source}, ${p.backbone}` })),
        cols.map((c) => el("td", { class: "number" }, c.key === "mean" ? one(p.mean) : c.key in p ? one(p[c.key]) : c.dataset === undefined ? "" : one(p.values[c.dataset]))));
      const after = rows.findIndex((r) => !missing(p.mean) && (missing(r.mean) || r.mean < p.mean));
      const byMean = state.get().sort === "mean" && state.get().down && after >= 0;
      if (byMean) lines[after].before(line);
      else table.querySelector("tbody").append(line);
    }
  }

  // What needs no network, below all rows: chance, and the pixels themselves.
  function floors(cols) {
    const [board, chosen] = [state.board(), state.chosen()];
    const mean = (values, kind) => model.shares(board.groups, chosen, kind).reduce((sum, w, i) => sum + w * values[chosen[i]], 0);
    const number = (c, values) => {
      if (c.dataset !== undefined) return one(values[c.dataset]);
      if (c.key === "mean") return one(mean(values, state.mean()));
      return c.key in bench.main.MEANS ? one(mean(values, c.key)) : "";
    };
    return el("tfoot", {}, board.floors.map(({ name, values }) => el("tr", { class: "floor" },
      el("th", { scope: "row", text: name }), cols.map((c) => el("td", { class: "number", text: number(c, values) })))));
  }

  function draw() {
    const cols = columns();
    const rows = sorted(state.rows(), cols);
    const table = el("table", { id: "board", class: "board" }, el("caption", { class: "unseen", text: bench.main.heading() }), head(cols), body(rows, cols), floors(cols));
    if (state.get().published) overlay(table, rows, cols);
    const shown = state.shown();
    const notes = [
      shown.over ? `Ranks and ties over ${shown.over}, at 95 % for all pairs of rows at once (Holm); bold: first tie group, underlined: second.` :
        "No ranks: they need two seeds of every row, or groups of four datasets.",
      "± half the 95 % interval over seeds. A dataset's bold: the best, and what its interval does not tell from it.",
      state.backbone().seen.length ? `‡ ${state.backbone().name} was pretrained on this data.` : "",
      state.board().note,
    ];
    return [
      el("div", { class: "row bar" }, el("span", { class: "count", text: `${rows.length} of ${shown.rows.length} rows` }), bench.exports.draw()),
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "leaderboard" }, table),
      el("p", { class: "note", text: notes.filter(Boolean).join(" ") }),
    ];
  }

  return { draw, columns, sorted, optional, chosenColumns, USUAL, rankText, meanText, three };
})();
