// Trade-offs: any two of the mean and the costs, with whiskers, the Pareto front and what ties with it.
bench.scatter = (() => {
  const { el, svg, missing, select, tick } = bench.dom;
  const { state, model } = bench;
  const [LEFT, BOTTOM, TOP, RIGHT] = [62, 50, 16, 16];
  let [WIDTH, HEIGHT] = [900, 540]; // of the picture, in the pixels of the screen
  const FAMILIES = {
    baseline: ["#3d3d3d", "square"], adapters: ["#1b5e9b", "circle"], "low-rank": ["#b3400b", "triangle"],
    prompts: ["#7a3a8c", "diamond"], "scale and shift": ["#1d6b3a", "down"], selection: ["#006b6b", "square"], "side network": ["#8a1c4a", "triangle"],
    other: ["#8a5a00", "cross"],
  };

  const axes = () => ({
    mean: { label: `accuracy in %, ${bench.main.MEANS[state.mean()]}`, value: (r) => r.mean, more: true, ends: (r) => [r.low, r.high] },
    ...Object.fromEntries(Object.entries(model.COSTS).map(([name, cost]) => [name, { label: cost.label, value: (r) => r.costs[name], more: cost.more }])),
    pe: { label: "PE", value: (r) => r.pe, more: true },
  });

  // The rows no other beats on both axes, by the first; and those that no row is told apart from above at their cost.
  function front(rows, x, y) {
    const beats = (a, b) => {
      const [dx, dy] = [x.value(a) - x.value(b), y.value(a) - y.value(b)].map((d, i) => ([x, y][i].more ? d : -d));
      return dx >= 0 && dy >= 0 && (dx > 0 || dy > 0);
    };
    return rows.filter((r) => !rows.some((s) => beats(s, r))).sort((r, s) => x.value(r) - x.value(s));
  }

  function tied(rows, x, on) {
    const { apart } = state.shown();
    const dear = (s, r) => (x.more ? x.value(s) >= x.value(r) : x.value(s) <= x.value(r));
    return rows.filter((r) => !on.includes(r) && !rows.some((s) => s.mean > r.mean && dear(s, r) && apart[r.index][s.index]));
  }

  function scale(values, log, from, to) {
    const usable = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
    let [low, high] = [Math.min(...usable), Math.max(...usable)].map((v) => (log ? Math.log10(v) : v));
    if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
    const pad = 0.06 * (high - low);
    [low, high] = [low - pad, high + pad];
    const at = (v) => from + (((log ? Math.log10(v) : v) - low) / (high - low)) * (to - from);
    const ticks = !log ? linearTicks(low, high) : high - low < 0.7 ? linearTicks(10 ** low, 10 ** high) : logTicks(low, high);
    return { at, ticks };
  }

  function linearTicks(low, high) {
    const rough = (high - low) / 6;
    const unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * [1, 2, 5, 10].find((m) => m * unit >= rough);
    const ticks = [];
    for (let v = Math.ceil(low / step) * step; v <= high + 1e-12; v += step) ticks.push(Number(v.toPrecision(10)));
    return ticks;
  }

  function logTicks(low, high) {
    const steps = high - low > (WIDTH < 600 ? 2 : 4) ? [1] : high - low > 1.2 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
    const ticks = [];
    for (let k = Math.floor(low); k <= high; k++) for (const m of steps) if (Math.log10(m) + k >= low && Math.log10(m) + k <= high) ticks.push(Number((m * 10 ** k).toPrecision(3)));
    return ticks;
  }

  const SHAPES = {
    circle: (x, y, r) => svg("circle", { cx: x, cy: y, r }),
    square: (x, y, r) => svg("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r }),
    triangle: (x, y, r) => svg("path", { d: `M${x} ${y - r - 1}L${x + r + 1} ${y + r}H${x - r - 1}Z` }),
    down: (x, y, r) => svg("path", { d: `M${x} ${y + r + 1}L${x + r + 1} ${y - r}H${x - r - 1}Z` }),
    diamond: (x, y, r) => svg("path", { d: `M${x} ${y - r - 2}L${x + r + 2} ${y}L${x} ${y + r + 2}L${x - r - 2} ${y}Z` }),
    cross: (x, y, r) => svg("path", { d: `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}` }),
  };

  // Names where there is room beside their points; the others show when pointed at.
  function names(points) {
    const boxes = points.map((p) => [p.x - 8, p.y - 8, p.x + 8, p.y + 8]);
    const free = (b, own) => b[0] > LEFT && b[2] < WIDTH - RIGHT && b[1] > TOP && b[3] < HEIGHT - BOTTOM &&
      boxes.every((o, i) => i === own || b[2] < o[0] || b[0] > o[2] || b[3] < o[1] || b[1] > o[3]);
    const placed = [];
    points.forEach((p, i) => {
      const w = 6.3 * p.r.label.length;
      for (const [dx, dy] of [[10, 4], [-10 - w, 4], [-w / 2, -12], [-w / 2, 20], [9, -9], [9, 17], [-9 - w, -9], [-9 - w, 17]]) {
        const box = [p.x + dx, p.y + dy - 10, p.x + dx + w, p.y + dy + 3];
        if (!free(box, i)) continue;
        boxes.push(box);
        placed.push(svg("text", { x: p.x + dx, y: p.y + dy, class: "name", text: p.r.label }));
        return;
      }
    });
    return placed;
  }

  function picture() {
    WIDTH = Math.max(340, Math.min(1150, document.getElementById("main").clientWidth || 900));
    HEIGHT = Math.max(360, Math.min(0.62 * WIDTH, innerHeight - 120));
    const all = axes();
    const { x: xName, y: yName, logx, logy, whiskers, names: named } = state.get();
    const [x, y] = [all[xName] || all.params_trained, all[yName] || all.mean];
    const usable = (v, log) => Number.isFinite(v) && (!log || v > 0);
    const rows = state.rows().filter((r) => usable(x.value(r), logx) && usable(y.value(r), logy));
    if (!rows.length) return el("p", { text: "No row has both numbers; on a logarithmic axis they must be positive." });
    const ends = (axis) => rows.flatMap((r) => [axis.value(r), ...(whiskers && axis.ends ? axis.ends(r).filter((v) => !missing(v)) : [])]);
    const printed = published(rows, y);
    const sx = scale(ends(x), logx, LEFT, WIDTH - RIGHT);
    const sy = scale([...ends(y), ...printed.map(([, p]) => p.mean)], logy, HEIGHT - BOTTOM, TOP);
    const on = front(rows, x, y);
    const close = y.ends && !x.ends && state.shown().over ? tied(rows, x, on) : [];
    const points = rows.map((r) => ({ r, x: sx.at(x.value(r)), y: sy.at(y.value(r)) }));
    const show = bench.dom.human;
    const number = (name, v) => (name.startsWith("params") ? show(v) : String(Number(v.toPrecision(6))));
    const step = on.flatMap((r, i) => (i ? [[sx.at(x.value(r)), sy.at(y.value(on[i - 1]))], [sx.at(x.value(r)), sy.at(y.value(r))]] : [[sx.at(x.value(r)), sy.at(y.value(r))]]));
    return svg("svg", { id: "plot", width: WIDTH, height: HEIGHT, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": `${y.label} against ${x.label}`, xmlns: "http://www.w3.org/2000/svg" },
      svg("g", { class: "grid" },
        sx.ticks.map((v) => [svg("line", { x1: sx.at(v), x2: sx.at(v), y1: TOP, y2: HEIGHT - BOTTOM }), svg("text", { x: sx.at(v), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle", text: number(xName, v) })]),
        sy.ticks.map((v) => [svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: sy.at(v), y2: sy.at(v) }), svg("text", { x: LEFT - 8, y: sy.at(v) + 4, "text-anchor": "end", text: number(yName, v) })])),
      svg("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 10, "text-anchor": "middle", class: "strong", text: x.label + (logx ? " (log)" : "") }),
      svg("text", { x: 16, y: HEIGHT / 2, "text-anchor": "middle", class: "strong", transform: `rotate(-90 16 ${HEIGHT / 2})`, text: y.label + (logy ? " (log)" : "") }),
      on.length > 1 ? svg("polyline", { class: "front", points: step.map((p) => p.join(",")).join(" ") }) : null,
      named ? names([...points].sort((p, q) => on.includes(q.r) - on.includes(p.r) || p.y - q.y)) : null,
      printed.map(([r, p]) => reported(p, sx.at(x.value(r)), sy.at(y.value(r)), sy.at(p.mean))),
      points.map((p) => mark(p, x, y, sx, sy, whiskers, on, close)));
  }

  // Means that others print, beside the rows they are of, whose costs they share; only on the axis of accuracy.
  function published(rows, y) {
    const s = state.get();
    if (!s.published || !y.ends) return [];
    return bench.reported.rows(state.board().suite, state.chosen(), state.mean()).filter((p) => !missing(p.mean))
      .map((p) => [bench.reported.measured(p), p]).filter(([r]) => r && rows.includes(r));
  }

  function reported(p, x, from, to) {
    const text = `${p.label}: ${Number(p.mean.toPrecision(4))}, reported by ${p.source}`;
    return svg("g", { class: "printed", "aria-label": text, role: "img" }, svg("title", { text }),
      svg("line", { x1: x, x2: x, y1: from, y2: to }), svg("circle", { cx: x, cy: to, r: 5 }));
  }

  function mark(p, x, y, sx, sy, whiskers, on, close) {
    const { r } = p;
    const [colour, shape] = FAMILIES[r.row.family] || FAMILIES.other;
    const line = (axis, horizontal) => {
      if (!whiskers || !axis.ends || missing(r.low)) return null;
      const [a, b] = axis.ends(r).map((v) => (horizontal ? sx.at(v) : sy.at(v)));
      return svg("line", horizontal ? { x1: a, x2: b, y1: p.y, y2: p.y, stroke: colour } : { x1: p.x, x2: p.x, y1: a, y2: b, stroke: colour });
    };
    const show = (axis) => Number(axis.value(r).toPrecision(4));
    const text = `${r.label}: ${show(y)}, ${x.label} ${show(x)}${r.row.merges ? ", merges" : ""}${on.includes(r) ? ", on the Pareto front" : close.includes(r) ? ", tied with the front" : ""}`;
    const open = () => state.set({ cell: `${r.row.method}:${r.row.variant}@` }, true);
    return svg("g", { class: "mark", tabindex: 0, role: "button", "aria-label": text, "data-label": r.label, onclick: open, onkeydown: (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); open(); } } },
      svg("title", { text }), line(x, true), line(y, false),
      close.includes(r) ? svg("circle", { cx: p.x, cy: p.y, r: 11, class: "tied" }) : null,
      build(SHAPES[shape](p.x, p.y, 5.5), colour, r.row.merges));
  }

  function build(node, colour, filled) {
    node.setAttribute("stroke", colour);
    node.setAttribute("fill", filled ? colour : "white");
    node.setAttribute("stroke-width", 2);
    return node;
  }

  function legend() {
    const used = new Set(state.rows().map((r) => r.row.family));
    const sign = (draw) => svg("svg", { viewBox: "0 0 24 24", class: "sign", "aria-hidden": true }, draw);
    return el("p", { class: "legend" },
      Object.entries(FAMILIES).filter(([f]) => used.has(f)).map(([f, [colour, shape]]) => el("span", {}, sign(build(SHAPES[shape](12, 12, 5.5), colour, true)), f)),
      el("span", {}, sign(build(SHAPES.circle(12, 12, 5.5), "#3d3d3d", true)), "merges into the backbone"),
      el("span", {}, sign(build(SHAPES.circle(12, 12, 5.5), "#3d3d3d", false)), "does not"),
      el("span", {}, sign(svg("circle", { cx: 12, cy: 12, r: 10, class: "tied" })), "tied with the front"),
      state.get().published ? el("span", {}, sign(svg("g", { class: "printed" }, svg("circle", { cx: 12, cy: 12, r: 5 }))), "reported by others, at the cost measured here") : null,
      el("span", {}, sign(svg("polyline", { class: "front", points: "2,20 2,12 14,12 14,4 22,4" })), "Pareto front"));
  }

  function draw() {
    const s = state.get();
    const options = Object.entries(axes()).map(([name, axis]) => [name, name === "mean" ? "accuracy" : axis.label]);
    return [
      el("div", { class: "fields" },
        select("across", s.x, options, (x) => state.set({ x }), { id: "axis-x" }), tick("log", s.logx, (on) => state.set({ logx: on ? "1" : "" }), { id: "log-x" }),
        select("up", s.y, options, (y) => state.set({ y }), { id: "axis-y" }), tick("log", s.logy, (on) => state.set({ logy: on ? "1" : "" }), { id: "log-y" }),
        tick("95 % whiskers", s.whiskers, (on) => state.set({ whiskers: on ? "1" : "" }), { id: "whiskers" }),
        tick("names", s.names, (on) => state.set({ names: on ? "1" : "" }), { id: "names" }), bench.exports.draw()),
      el("div", { class: "picture" }, picture()), legend(),
    ];
  }

  return { draw, FAMILIES, front };
})();
