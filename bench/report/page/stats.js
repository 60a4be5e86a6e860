// The statistics of bench.report.statistics and bench.report.standings, for datasets may be ticked off here.
// Scores are arrays of strata of repeats; a missing repeat is NaN.
const bench = {};

bench.stats = (() => {
  const LEVEL = 0.95;
  const FEWEST = 4; // datasets of a group, without which their spread says too little

  // Lanczos' approximation of log gamma: Press et al., Numerical Recipes, 3rd ed., 6.1.
  const LANCZOS = [
    57.1562356658629235, -59.5979603554754912, 14.1360979747417471, -0.491913816097620199, 0.339946499848118887e-4,
    0.465236289270485756e-4, -0.983744753048795646e-4, 0.158088703224912494e-3, -0.210264441724104883e-3,
    0.217439618115212643e-3, -0.164318106536763890e-3, 0.844182239838527433e-4, -0.261908384015814087e-4,
    0.368991826595316234e-5,
  ];

  function logGamma(x) {
    let sum = 0.999999999999997092;
    LANCZOS.forEach((c, i) => { sum += c / (x + 1 + i); });
    const t = x + 5.24218750000000000;
    return (x + 0.5) * Math.log(t) - t + Math.log((2.5066282746310005 * sum) / x);
  }

  // The regularised incomplete beta function, by Lentz's continued fraction (Numerical Recipes, 6.4).
  function beta(x, a, b) {
    if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
    const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x));
    return x < (a + 1) / (a + b + 2) ? (front * fraction(x, a, b)) / a : 1 - (front * fraction(1 - x, b, a)) / b;
  }

  function fraction(x, a, b) {
    const tiny = 1e-300;
    const held = (v) => (Math.abs(v) < tiny ? tiny : v);
    let c = 1;
    let d = 1 / held(1 - ((a + b) * x) / (a + 1));
    let h = d;
    for (let m = 1; m < 500; m++) {
      const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
      d = 1 / held(1 + even * d);
      c = held(1 + even / c);
      h *= d * c;
      const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
      d = 1 / held(1 + odd * d);
      c = held(1 + odd / c);
      h *= d * c;
      if (Math.abs(d * c - 1) < 1e-14) break;
    }
    return h;
  }

  const twoSided = (t, df) => beta(df / (df + t * t), df / 2, 0.5);

  // Student's quantile of (1 + level) / 2, by bisection of the two-sided p.
  const quantiles = new Map();
  function quantile(df) {
    if (!quantiles.has(df)) {
      let low = 0;
      let high = 2;
      while (twoSided(high, df) > 1 - LEVEL) high *= 2;
      for (let i = 0; i < 80; i++) {
        const middle = (low + high) / 2;
        if (twoSided(middle, df) > 1 - LEVEL) low = middle;
        else high = middle;
      }
      quantiles.set(df, (low + high) / 2);
    }
    return quantiles.get(df);
  }

  // The weighted sum over strata of the mean over repeats: Student's with Welch's and Satterthwaite's degrees of freedom.
  function weightedMean(strata, weights) {
    let [value, variance, below, largest] = [0, 0, 0, 0];
    for (let s = 0; s < strata.length; s++) {
      let [count, sum] = [0, 0];
      for (const x of strata[s]) if (!Number.isNaN(x)) { count++; sum += x; largest = Math.max(largest, Math.abs(x)); }
      const mean = count ? sum / count : NaN;
      let squares = 0;
      for (const x of strata[s]) if (!Number.isNaN(x)) squares += (x - mean) ** 2;
      const part = count > 1 ? (weights[s] ** 2 * squares) / ((count - 1) * count) : NaN;
      value += weights[s] * mean;
      variance += part;
      below += part ** 2 / (count - 1);
    }
    const certain = variance <= (1e-14 * largest) ** 2;
    return { value, error: Math.sqrt(variance), df: certain ? NaN : variance ** 2 / below, certain };
  }

  function interval(mean) {
    const half = mean.certain ? 0 : Number.isNaN(mean.df) ? NaN : quantile(mean.df) * mean.error;
    return [mean.value - half, mean.value + half];
  }

  function pValue(mean) {
    if (mean.certain) return mean.value === 0 ? 1 : 0;
    return Number.isNaN(mean.df) ? NaN : twoSided(mean.value / mean.error, mean.df);
  }

  const less = (one, other) => one.map((stratum, s) => stratum.map((x, r) => x - other[s][r]));

  function holm(ps) {
    const order = ps.map((p, i) => i).filter((i) => !Number.isNaN(ps[i])).sort((i, j) => ps[i] - ps[j] || i - j);
    const adjusted = ps.map(() => NaN);
    let most = 0;
    order.forEach((i, k) => { most = Math.max(most, (order.length - k) * ps[i]); adjusted[i] = Math.min(most, 1); });
    return adjusted;
  }

  // Which rows are told apart, for all pairs at once: `counts` says which rows do, `differ(i, j)` is their difference.
  function apart(counts, differ) {
    const pairs = [];
    for (let i = 0; i < counts.length; i++) for (let j = i + 1; j < counts.length; j++) if (counts[i] && counts[j]) pairs.push([i, j]);
    const ps = pairs.map(([i, j]) => pValue(differ(i, j)));
    const table = counts.map(() => counts.map(() => false));
    holm(ps).forEach((p, k) => {
      const [i, j] = pairs[k];
      table[i][j] = table[j][i] = p < 1 - LEVEL;
    });
    return table;
  }

  function tieGroups(values, table) {
    const groups = values.map(() => NaN);
    let left = values.map((v, i) => i).filter((i) => !Number.isNaN(values[i])).sort((i, j) => values[j] - values[i] || i - j);
    for (let group = 1; left.length; group++) {
      const leader = left[0];
      left.forEach((i) => { if (i === leader || !table[leader][i]) groups[i] = group; });
      left = left.filter((i) => Number.isNaN(groups[i]));
    }
    return groups;
  }

  function ranks(values, table) {
    const known = values.filter((v) => !Number.isNaN(v)).length;
    return values.map((v, i) => {
      if (Number.isNaN(v)) return [NaN, NaN];
      const beaten = (sign) => values.filter((w, j) => table[i][j] && sign * (w - v) > 0).length;
      return [1 + beaten(1), known - beaten(-1)];
    });
  }

  const pe = (score, trained, scale) => score * Math.exp(-Math.log10(trained / scale + 1));

  // The binomial sign test, two-sided.
  function signTest(wins, losses) {
    const n = wins + losses;
    let tail = 0;
    for (let k = 0; k <= Math.min(wins, losses); k++) {
      tail += Math.exp(logGamma(n + 1) - logGamma(k + 1) - logGamma(n - k + 1) - n * Math.LN2);
    }
    return n ? Math.min(1, 2 * tail) : 1;
  }

  return { FEWEST, weightedMean, interval, pValue, less, holm, apart, tieGroups, ranks, pe, signTest, twoSided, quantile };
})();
