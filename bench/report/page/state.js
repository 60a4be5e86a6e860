// What is shown, kept in the address's fragment: a link or a reload shows the same again.
bench.state = (() => {
  const { data, keysOf } = bench.model;
  const DEFAULTS = {
    board: "", backbone: "", view: "table", mean: "", sort: "mean", down: "1", off: "", q: "", family: "", max: "",
    merges: "", whole: "", cols: "", x: "params_trained", y: "mean", logx: "1", logy: "", whiskers: "1", names: "1",
    published: "", a: "", b: "", cell: "", pe: "1e8",
  };
  let current = read();

  function read() {
    const found = { ...DEFAULTS };
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (name in DEFAULTS) found[name] = value;
    return found;
  }

  function text(state) {
    const changed = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name]);
    return new URLSearchParams(changed).toString();
  }

  // Changes some of it and draws again; a step of its own in the history only where the reader would go back to.
  function set(changes, step = false) {
    current = { ...current, ...changes };
    history[step ? "pushState" : "replaceState"](null, "", `#${text(current)}`);
    bench.main.draw();
  }

  const board = () => data.boards.find((b) => b.name === current.board) || data.boards[0];
  // Without a choice, the backbone with the most runs.
  const runs = (b) => b.rows.reduce((sum, row) => sum + row.runs.length, 0);
  const largest = (backbones) => backbones.reduce((a, b) => (runs(b) > runs(a) ? b : a));
  const backbone = () => board().backbones.find((b) => b.name === current.backbone) || largest(board().backbones);
  const mean = () => current.mean || board().headline;
  const off = () => new Set(current.off.split(",").filter(Boolean));

  // Places of the datasets that are ticked; all where none would be left.
  function chosen() {
    const gone = off();
    const keys = keysOf(board().groups);
    const kept = keys.map((key, i) => i).filter((i) => !gone.has(keys[i]));
    return kept.length ? kept : keys.map((key, i) => i);
  }

  const peScale = () => (Number(current.pe) > 0 ? Number(current.pe) : 1e8);
  const shown = () => bench.model.standings(board(), backbone(), chosen(), mean(), peScale());

  // The rows that the filters leave.
  function rows() {
    const words = current.q.toLowerCase().split(/\s+/).filter(Boolean);
    const most = current.max === "" ? Infinity : Number(current.max) * 1e6;
    return shown().rows.filter((r) =>
      words.every((word) => r.label.toLowerCase().includes(word)) &&
      (!current.family || r.row.family === current.family) &&
      (!current.merges || r.row.merges) && (!current.whole || r.coverage === 1) &&
      (most === Infinity || r.costs.params_trained <= most));
  }

  // Which folds are open, as the reader left them; on a wide screen the filters are.
  function open(id) {
    const fold = document.getElementById(id);
    return fold ? fold.open : id === "choose" && innerWidth > 700;
  }

  addEventListener("popstate", () => { current = read(); bench.main.draw(); });
  return { get: () => current, set, board, backbone, mean, off, chosen, shown, rows, peScale, open };
})();
