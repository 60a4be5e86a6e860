// The numbers of one board: from runs to rows with means, intervals, ties, ranks and costs.
bench.model = (() => {
  const { stats } = bench;
  const data = JSON.parse(document.getElementById("data").textContent);
  const PLACE = Object.fromEntries(data.run.map((name, i) => [name, i]));
  const get = (run, name) => run[PLACE[name]];

  // What a row costs, from the means of its measures, as bench/report/columns.py has it.
  const trained = (of) => of.params_deployed + of.params_head;
  const COSTS = {
    params_trained: { label: "trained parameters", of: trained, show: "human" },
    params_deployed: { label: "trained, no head", of: (of) => of.params_deployed, show: "human" },
    params_method: { label: "at most, no head", of: (of) => of.params_method, show: "human" },
    params_head: { label: "head", of: (of) => of.params_head, show: "human" },
    trained_percent: { label: "trained, % of all", of: (of) => (100 * trained(of)) / of.params_total, show: "three" },
    gflops_unmerged: { label: "GFLOPs", of: (of) => of.flops_unmerged / 1e9, show: "three" },
    gflops_merged: { label: "GFLOPs, merged", of: (of) => of.flops_merged / 1e9, show: "three" },
    gflops_linear_conv: { label: "GFLOPs, papers' count", of: (of) => of.flops_linear_conv / 1e9, show: "three" },
    storage_mb: { label: "stored MB", of: (of) => of.storage_with_head / 1e6, show: "three" },
    storage_mb_without_head: { label: "stored MB, no head", of: (of) => of.storage_without_head / 1e6, show: "three" },
    bits_per_parameter: { label: "stored bits a parameter", of: (of) => (8 * of.storage_without_head) / of.params_deployed, show: "three" },
    train_seconds: { label: "training s", of: (of) => of.train_seconds, show: "three" },
    train_images_per_second: { label: "training images/s", of: (of) => of.train_images_per_second, show: "three", more: true },
    inference_images_per_second: { label: "inference images/s", of: (of) => of.inference_images_per_second, show: "three", more: true },
    merged_images_per_second: { label: "inference images/s, merged", of: (of) => of.merged_images_per_second, show: "three", more: true },
    train_mb: { label: "training MB, tensors", of: (of) => of.train_bytes / 1e6, show: "three" },
    inference_mb: { label: "inference MB, tensors", of: (of) => of.inference_bytes / 1e6, show: "three" },
    peak_mb: { label: "peak memory MB", of: (of) => of.peak_bytes / 1e6, show: "three" },
    peak_inference_mb: { label: "peak memory MB, testing", of: (of) => of.peak_inference_bytes / 1e6, show: "three" },
  };

  const numbers = (list) => list.map((x) => (x === null ? NaN : x));
  const average = (list) => (list.length ? list.reduce((a, b) => a + b, 0) / list.length : NaN);
  const meanOver = (runs, measure) => average(numbers(runs.map((run) => get(run, measure))));

  // Every cost, given the mean of every measure.
  function costsOf(mean) {
    const means = Object.fromEntries(data.measures.map((measure) => [measure, mean(measure)]));
    return Object.fromEntries(Object.entries(COSTS).map(([name, cost]) => [name, cost.of(means)]));
  }

  const label = (row) => (row.variant === "default" ? row.method : `${row.method} (${row.variant})`);
  const keysOf = (groups) => Object.values(groups).flat();

  // Of each chosen dataset in the mean, by group or flat; `chosen` are places among all datasets.
  function shares(groups, chosen, headline) {
    const keys = keysOf(groups);
    if (headline === "mean_datasets") return chosen.map(() => 1 / chosen.length);
    const sizes = chosen.map((d) => Object.values(groups).find((members) => members.includes(keys[d])))
      .map((members) => chosen.filter((d) => members.includes(keys[d])).length);
    const full = Object.values(groups).filter((members) => chosen.some((d) => members.includes(keys[d]))).length;
    return sizes.map((size) => 1 / full / size);
  }

  // The places of datasets that are alike: those of each group, or all of them.
  function alike(groups, chosen, headline) {
    const keys = keysOf(groups);
    if (headline === "mean_datasets") return [chosen];
    return Object.values(groups).map((members) => chosen.filter((d) => members.includes(keys[d]))).filter((m) => m.length);
  }

  function scoresOf(row, datasets, seeds) {
    const scores = Array.from({ length: datasets }, () => seeds.map(() => NaN));
    for (const run of row.runs) {
      if (get(run, "status") === "done") scores[get(run, "dataset")][seeds.indexOf(get(run, "seed"))] = 100 * get(run, "score");
    }
    return scores;
  }

  const cache = new Map();

  // Everything a view shows of one backbone of a board, for the chosen datasets and mean.
  function standings(board, backbone, chosen, headline, peScale) {
    const key = [board.name, backbone.name, chosen, headline, peScale].join("|");
    if (!cache.has(key)) {
      if (cache.size > 20) cache.clear();
      cache.set(key, compute(board, backbone, chosen, headline, peScale));
    }
    return cache.get(key);
  }

  function compute(board, backbone, chosen, headline, peScale) {
    const keys = keysOf(board.groups);
    const seeds = [...new Set(backbone.rows.flatMap((row) => row.runs.map((run) => get(run, "seed"))))].sort((a, b) => a - b);
    const weights = shares(board.groups, chosen, headline);
    const rows = backbone.rows.map((row, index) => {
      const scores = scoresOf(row, keys.length, seeds);
      const cells = scores.map((s) => stats.weightedMean([s], [1]));
      const mean = stats.weightedMean(chosen.map((d) => scores[d]), weights);
      const means = chosen.map((d) => cells[d].value);
      const bound = (end) => means.reduce((sum, m, i) => sum + weights[i] * (Number.isNaN(m) ? end : m), 0);
      const [low, high] = stats.interval(mean);
      const counts = chosen.map((d) => scores[d].filter((x) => !Number.isNaN(x)).length);
      const done = chosen.map((d) => row.runs.filter((run) => get(run, "dataset") === d && get(run, "status") === "done"));
      const costs = costsOf((measure) => average(done.map((runs) => meanOver(runs, measure))));
      const other = (kind) => {
        const w = shares(board.groups, chosen, kind);
        return means.reduce((sum, m, i) => sum + w[i] * m, 0);
      };
      return {
        index, row, label: label(row), scores, cells, costs, low, high,
        failures: new Set(row.runs.filter((run) => get(run, "status") === "failed").map((run) => get(run, "dataset"))),
        mean: mean.value,
        mean_datasets: other("mean_datasets"),
        mean_groups: other("mean_groups"),
        bound: [bound(0), bound(100)],
        coverage: means.filter((m) => !Number.isNaN(m)).length / chosen.length,
        seeds: Math.min(...counts),
        seedsMost: Math.max(...counts),
        failed: row.runs.filter((run) => chosen.includes(get(run, "dataset")) && get(run, "status") === "failed").length,
        pe: stats.pe(mean.value / 100, costs.params_trained, peScale),
      };
    });
    const complete = rows.filter((r) => !Number.isNaN(r.mean));
    const groups = alike(board.groups, chosen, headline);
    let over = "";
    if (complete.length && complete.every((r) => !Number.isNaN(r.low))) over = "seeds";
    else if (complete.length && Math.min(...groups.map((m) => m.length)) >= stats.FEWEST) over = "datasets";
    const differ = over === "datasets"
      ? (i, j) => stats.weightedMean(overDatasets(rows[i], rows[j], groups), groups.map(() => 1 / groups.length))
      : (i, j) => stats.weightedMean(stats.less(chosen.map((d) => rows[i].scores[d]), chosen.map((d) => rows[j].scores[d])), weights);
    const apart = stats.apart(rows.map((r) => over !== "" && !Number.isNaN(r.mean)), differ);
    const values = rows.map((r) => (over ? r.mean : NaN));
    const ties = stats.tieGroups(values, apart);
    const ranks = stats.ranks(values, apart);
    rows.forEach((r, i) => { r.tie = ties[i]; [r.best, r.worst] = ranks[i]; });
    return { rows, apart, over, seeds, weights, chosen, groups, best: chosen.map((d) => bestCells(rows, d)) };
  }

  // Of every dataset the difference of two rows over the seeds both have, in strata of datasets that are alike.
  function overDatasets(a, b, groups) {
    return groups.map((m) => m.map((d) => stats.weightedMean(stats.less([a.scores[d]], [b.scores[d]]), [1]).value));
  }

  // Of one dataset the best row, and those whose paired interval does not tell them from it; their indices.
  function bestCells(rows, d) {
    const known = rows.filter((r) => !Number.isNaN(r.cells[d].value));
    if (!known.length) return new Set();
    const leader = known.reduce((a, b) => (b.cells[d].value > a.cells[d].value ? b : a));
    const lows = known.map((r) => stats.interval(stats.weightedMean(stats.less([leader.scores[d]], [r.scores[d]]), [1]))[0]);
    const all = lows.every((low) => !Number.isNaN(low));
    return new Set(known.filter((r, i) => r.cells[d].value === leader.cells[d].value || (all && lows[i] <= 0)).map((r) => r.index));
  }

  return { data, get, COSTS, costsOf, meanOver, label, keysOf, shares, alike, standings, overDatasets };
})();
