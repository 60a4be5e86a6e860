// Two rows of the board: what they differ by, seed by seed and dataset by dataset, and in cost.
bench.compare = (() => {
  const { el, svg, DASH, missing, one, signed, pText, select, plainTable } = bench.dom;
  const { state, model, stats } = bench;
  const name = (r) => `${r.row.method}:${r.row.variant}`;

  function difference(strata, weights) {
    const mean = stats.weightedMean(strata, weights);
    const [low, high] = stats.interval(mean);
    return { value: mean.value, low, high, p: stats.pValue(mean) };
  }

  function said(d) {
    const interval = missing(d.low) ? "" : ` [${signed(d.low)}, ${signed(d.high)}]`;
    return signed(d.value) + interval + (missing(d.p) ? "" : `, p ${d.p < 0.0005 ? "" : "= "}${pText(d.p)}`);
  }

  // The numbers of the comparison; the same as bench.report.compare gives.
  function numbers(a, b) {
    const shown = state.shown();
    const d = shown.chosen.map((k) => difference(stats.less([a.scores[k]], [b.scores[k]]), [1]));
    const holm = stats.holm(d.map((x) => x.p));
    const means = model.overDatasets(a, b, shown.groups);
    const wins = d.filter((x) => x.value > 0).length;
    const losses = d.filter((x) => x.value < 0).length;
    return {
      datasets: d.map((x, i) => ({ ...x, holm: holm[i] })),
      seeds: difference(stats.less(shown.chosen.map((k) => a.scores[k]), shown.chosen.map((k) => b.scores[k])), shown.weights),
      over: difference(means, means.map(() => 1 / means.length)),
      wins, losses, ties: d.filter((x) => x.value === 0).length, sign: stats.signTest(wins, losses),
    };
  }

  // A dot and its interval for each dataset, around zero.
  function picture(found, keys) {
    const ends = found.datasets.flatMap((d) => [d.low, d.high, d.value, 0]).filter((x) => !missing(x));
    const [low, high] = [Math.min(...ends), Math.max(...ends)];
    const [width, left, line] = [640, 170, 22];
    const x = (v) => left + 10 + ((v - low) / (high - low || 1)) * (width - left - 30);
    const height = line * keys.length + 34;
    return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "forest", role: "img", "aria-label": "difference on each dataset with its 95 % interval" },
      svg("line", { x1: x(0), x2: x(0), y1: 6, y2: height - 24, class: "axis" }),
      [low, 0, high].map((v) => svg("text", { x: x(v), y: height - 8, "text-anchor": "middle", text: signed(v, 1) })),
      found.datasets.map((d, i) => {
        const y = 18 + line * i;
        return [
          svg("text", { x: left, y: y + 4, "text-anchor": "end", text: keys[i] }),
          missing(d.low) ? null : svg("line", { x1: x(d.low), x2: x(d.high), y1: y, y2: y, class: "whisker" }),
          missing(d.value) ? null : svg("circle", { cx: x(d.value), cy: y, r: 4.5, class: d.low > 0 ? "win" : d.high < 0 ? "loss" : "open" }),
        ];
      }));
  }

  function draw() {
    const shown = state.shown();
    const keys = shown.chosen.map((d) => model.keysOf(state.board().groups)[d]);
    const rows = [...shown.rows].sort((r, s) => r.label.localeCompare(s.label));
    const byMean = shown.rows.filter((r) => !missing(r.mean)).sort((r, s) => s.mean - r.mean);
    const pick = (wanted, fallback) => rows.find((r) => name(r) === wanted) || fallback || rows[0];
    const a = pick(state.get().a, byMean[0]);
    const b = pick(state.get().b, byMean.find((r) => r !== a));
    const options = rows.map((r) => [name(r), r.label]);
    const found = numbers(a, b);
    const cost = (r, c) => (missing(r.costs[c]) ? DASH : bench.dom[model.COSTS[c].show](r.costs[c]));
    return [
      el("div", { class: "fields" }, select("first", name(a), options, (v) => state.set({ a: v, b: name(b) }), { id: "first" }),
        select("second", name(b), options, (v) => state.set({ a: name(a), b: v }), { id: "second" })),
      el("h2", { text: `${a.label} less ${b.label}` }),
      el("dl", { id: "differences" },
        el("dt", { text: `${bench.main.MEANS[state.mean()]}, over seeds` }), el("dd", { id: "over-seeds", text: said(found.seeds) }),
        el("dt", { text: "over datasets" }), el("dd", { id: "over-datasets", text: said(found.over) }),
        el("dt", { text: "datasets" }), el("dd", { text: `${found.wins} won, ${found.ties} tied, ${found.losses} lost; sign test p = ${pText(found.sign)}` })),
      el("p", { class: "note", text: "In points of accuracy, with 95 % intervals, paired seed by seed. Over seeds: would other trainings agree? Over datasets: would other datasets like these?" }),
      picture(found, keys),
      plainTable(["dataset", "first", "second", "difference", "interval", "p", "p (Holm)"], found.datasets.map((d, i) => {
        const k = shown.chosen[i];
        return [keys[i], one(a.cells[k].value), one(b.cells[k].value), signed(d.value), missing(d.low) ? DASH : `${signed(d.low)} to ${signed(d.high)}`, pText(d.p), pText(d.holm)];
      })),
      el("h3", { text: "Costs" }),
      plainTable(["cost", "first", "second", "ratio"], Object.keys(model.COSTS).map((c) => {
        const ratio = a.costs[c] / b.costs[c];
        return [model.COSTS[c].label, cost(a, c), cost(b, c), Number.isFinite(ratio) ? bench.dom.three(ratio) : DASH];
      })),
    ];
  }

  return { draw, numbers };
})();
