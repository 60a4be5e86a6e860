// What others print: beside what was measured, never averaged or ranked with it; and their counts against ours.
bench.reported = (() => {
  const { el, missing, one, fixed, plainTable, DASH } = bench.dom;
  const { state, model } = bench;

  // The rows of a suite with both means over the chosen datasets; without a mean where a dataset is missing.
  function rows(suite, chosen, headline) {
    const found = model.data.reported.find((part) => part.suite === suite);
    if (!found) return [];
    const mean = (values, kind) => model.shares(found.groups, chosen, kind).reduce((sum, w, i) => sum + w * values[chosen[i]], 0);
    return found.rows.map((row) => {
      const values = row.values.map((v) => (v === null ? NaN : v));
      const [mean_datasets, mean_groups] = [mean(values, "mean_datasets"), mean(values, "mean_groups")];
      return { ...row, values, label: row.variant ? `${row.method} (${row.variant})` : row.method, mean_datasets, mean_groups, mean: headline === "mean_groups" ? mean_groups : mean_datasets };
    }).sort((a, b) => (missing(a.mean) || missing(b.mean) ? missing(a.mean) - missing(b.mean) : b.mean - a.mean));
  }

  // The row of the same method and variant, where the board is of the same backbone.
  const measured = (p) => state.shown().rows.find((r) => r.row.method === p.method && r.row.variant === (p.variant || "default") && state.backbone().name === p.backbone);

  // What it scores more or less than is printed.
  function gap(p) {
    const own = measured(p);
    return own ? own.mean - p.mean : NaN;
  }

  function audit() {
    const methods = new Set(state.shown().rows.map((r) => r.row.method));
    const counts = model.data.counts.filter((c) => methods.has(c.method));
    if (!counts.length) return null;
    const matched = counts.filter((c) => c.verdict === "match").length;
    return [
      el("h2", { text: "Printed counts of trained parameters" }),
      el("p", { text: `${matched} of ${counts.length} printed numbers are what the network has; the others are errata, each with its reason.` }),
      plainTable(["method", "printed in", "backbone", "settings", "printed", "counted", "verdict", "note"],
        counts.map((c) => [c.method, `${c.paper}, ${c.table}`, c.backbone, c.settings, `${c.published} ${c.unit === "M" ? "M" : ""}`, c.count, c.verdict, c.note]), { class: "words", id: "counts" }),
    ];
  }

  function draw() {
    const suite = state.board().suite;
    const found = rows(suite, state.chosen(), state.mean());
    const keys = model.keysOf(state.board().groups);
    return [
      found.length
        ? [el("p", { text: "As their sources print them; none was measured here. The gap is measured less reported, of the same method, variant and backbone." }),
          plainTable(["method", "source", "backbone", bench.main.MEANS.mean_groups, bench.main.MEANS.mean_datasets, "gap", ...state.chosen().map((d) => keys[d])],
            found.map((p) => [p.label, p.source, p.backbone, one(p.mean_groups), one(p.mean_datasets), missing(gap(p)) ? DASH : fixed(1)(gap(p)), ...state.chosen().map((d) => one(p.values[d]))]), { id: "reported" })]
        : el("p", { text: `No reported numbers of ${suite} in this results folder: bench join --reported FILE.csv adds some.` }),
      audit(),
    ];
  }

  return { draw, rows, measured };
})();
