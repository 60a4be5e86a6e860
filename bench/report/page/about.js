// How the numbers came to be: coverage, code, dates, devices, and what every column means.
bench.about = (() => {
  const { el, plainTable, fixed, three } = bench.dom;
  const { state, model, stats } = bench;
  const { get } = model;

  const unique = (values) => [...new Set(values.filter((v) => v !== null && v !== undefined))].sort();
  const runsOf = (backbone) => backbone.rows.flatMap((row) => row.runs);

  // One line for the head: how much of the board is there, with how many seeds, by which code, when.
  function coverage(board, backbone) {
    const runs = runsOf(backbone);
    const done = runs.filter((run) => get(run, "status") === "done");
    const datasets = model.keysOf(board.groups).length;
    const cells = new Set(done.map((run) => `${get(run, "dataset")} ${backbone.rows.findIndex((row) => row.runs.includes(run))}`)).size;
    const seeds = unique(done.map((run) => get(run, "seed"))).length;
    const commits = unique(runs.map((run) => model.data.provenance[get(run, "provenance")].code)).length;
    const dates = unique(runs.map((run) => get(run, "started").slice(0, 10)));
    const failed = runs.filter((run) => get(run, "status") === "failed").length;
    return `${backbone.rows.length} rows on ${datasets} datasets: ${cells} of ${backbone.rows.length * datasets} cells have a result, from ${done.length} runs with up to ${seeds} seed${seeds === 1 ? "" : "s"}` +
      `${failed ? `, ${failed} failed` : ""}; ${commits} commit${commits === 1 ? "" : "s"}, ${dates[0]}${dates.length > 1 ? ` to ${dates[dates.length - 1]}` : ""}.`;
  }

  // How much of the order by PE is due to its constant: the ranks of the first rows with four constants.
  function sensitivity() {
    const scales = [1e6, 1e7, 1e8, 1e9];
    const rows = state.shown().rows.filter((r) => Number.isFinite(r.pe));
    const ranks = scales.map((s) => {
      const order = [...rows].sort((a, b) => stats.pe(b.mean, b.costs.params_trained, s) - stats.pe(a.mean, a.costs.params_trained, s));
      return new Map(order.map((r, i) => [r, i + 1]));
    });
    const first = [...rows].sort((a, b) => ranks[2].get(a) - ranks[2].get(b)).slice(0, 12);
    return [el("h2", { text: "PE, and its constant" }),
      el("p", { text: "PE = mean × exp(−log10(P / c + 1)), P the trained parameters. ELEVATER divides by c = 1e8, others by 1e7: the rank of a row by PE depends on it." }),
      plainTable(["method", "PE at 1e8", ...scales.map((s) => `rank, c = ${s.toExponential(0).replace("+", "")}`)],
        first.map((r) => [r.label, fixed(3)(stats.pe(r.mean / 100, r.costs.params_trained, 1e8)), ...ranks.map((m) => String(m.get(r)))]), { id: "sensitivity" })];
  }

  function draw() {
    const [board, backbone] = [state.board(), state.backbone()];
    const runs = runsOf(backbone);
    const places = unique(runs.map((run) => get(run, "provenance"))).map((i) => model.data.provenance[i]);
    const count = (p) => runs.filter((run) => model.data.provenance[get(run, "provenance")] === p).length;
    const groups = Object.entries(board.groups).map(([name, keys]) => `${name}: ${keys.join(", ")}`).join("; ");
    return [
      el("h2", { text: "Reading the columns" }),
      el("ul", {}, [
        `${bench.main.MEANS.mean_groups}: over the groups of the mean over their datasets (${groups}); ${bench.main.MEANS.mean_datasets}: over the datasets. Each dataset is a mean over its seeds. A mean that lacks a dataset is not given: “a to b” is what it may be.`,
        "±: half the 95 % interval over seeds, Student's with Welch's and Satterthwaite's degrees of freedom.",
        "rank: the ranks a row may have; tie: 1 holds the first row and all not told apart from it, 2 the first of the others, and so on. Rows are told apart by their differences, paired seed by seed, for all pairs at once (Holm).",
        "trained parameters: of the final model, head included. GFLOPs: 1e9 operations of one image's forward pass, 1 MAC = 2 FLOPs. MB: 1e6 bytes of the file that turns the backbone into the model. Costs are means over datasets; times compare on one device alone.",
        "† a mean without the seeds that failed. ‡ the backbone was pretrained on this data. n: finished seeds, the fewest over the datasets.",
        "Datasets that are ticked off count in no mean, rank, interval or cost.",
      ].map((text) => el("li", { text }))),
      sensitivity(),
      el("h2", { text: "Where the runs were made" }),
      plainTable(["commit", "runs", "device", "threads", "numbers", "libraries"], places.map((p) => [p.code || "unknown", String(count(p)), p.device_name, three(p.threads), p.dtype, Object.entries(p.versions).map(([k, v]) => `${k} ${v}`).join(", ")]), { class: "words" }),
    ];
  }

  return { draw, coverage };
})();
