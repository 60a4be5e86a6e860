// The head with what may be chosen, and the view that is chosen; drawn whole at every change.
bench.main = (() => {
  const { el, select, tick } = bench.dom;
  const { state, model } = bench;
  const MEANS = { mean_groups: "mean (groups)", mean_datasets: "mean (datasets)" };
  const VIEWS = { table: "Table", plot: "Trade-offs", compare: "Compare", reported: "Published", about: "About" };
  let drawn = "";

  const heading = () => `${state.board().title}: ${state.backbone().name}, ${state.board().protocol.name}`;

  const tabs = (label, name, options, value, pick) => el("nav", { class: "tabs", "aria-label": label },
    options.map(([key, text]) => el("button", { id: `${name}-${key}`, "aria-current": key === value ? "true" : null, text, onclick: () => pick(key) })));

  // Boards by suite, then by protocol and weights: never two of them in one table.
  function boards() {
    const all = model.data.boards;
    const board = state.board();
    const suites = [...new Map(all.map((b) => [b.suite, b.suite])).values()];
    const own = all.filter((b) => b.suite === board.suite);
    const kind = (b) => `${b.protocol.name}${b.name.includes("@") ? `, ${b.name.split("@").slice(1).join("@")}` : ""}: ${b.tuned ? "tuned" : "default"}`;
    const clear = { backbone: "", off: "", cell: "", a: "", b: "" };
    return [
      suites.length > 1 ? tabs("suite", "suite", suites.map((s) => [s, s]), board.suite, (s) => state.set({ ...clear, board: all.find((b) => b.suite === s).name, mean: "" }, true)) : null,
      own.length > 1 ? tabs("protocol", "protocol", own.map((b) => [b.name, kind(b)]), board.name, (b) => state.set({ ...clear, board: b }, true)) : null,
      tabs("backbone", "backbone", board.backbones.map((b) => [b.name, b.name]), state.backbone().name, (b) => state.set({ backbone: b, cell: "" }, true)),
    ];
  }

  function datasets() {
    const off = state.off();
    const change = (keys, on) => {
      for (const key of keys) (on ? off.delete(key) : off.add(key));
      state.set({ off: [...off].join(",") });
    };
    const count = model.keysOf(state.board().groups).length;
    return el("details", { id: "datasets", open: state.open("datasets") }, el("summary", { text: `Datasets (${state.chosen().length} of ${count})` }),
      Object.entries(state.board().groups).map(([group, keys]) => el("fieldset", {}, el("legend", { text: group }),
        keys.map((key) => tick(key, !off.has(key), (on) => change([key], on), { id: `dataset-${key}` })),
        keys.length > 1 ? el("button", { class: "small", text: keys.every((k) => !off.has(k)) ? "none" : "all", id: `group-${group}`, onclick: () => change(keys, !keys.every((k) => !off.has(k))) }) : null)));
  }

  function columns() {
    const chosen = bench.table.chosenColumns();
    const change = (name, on) => state.set({ cols: (on ? [...chosen, name] : chosen.filter((c) => c !== name)).join(",") || "seeds" });
    return el("details", { id: "columns", open: state.open("columns") }, el("summary", { text: "Columns" }), el("fieldset", {},
      Object.entries(bench.table.optional()).map(([name, column]) => tick(column.label, chosen.includes(name), (on) => change(name, on), { id: `column-${name}` }))));
  }

  function filters() {
    const s = state.get();
    const families = [...new Set(state.backbone().rows.map((row) => row.family))].sort();
    return el("div", { class: "fields" },
      el("label", { class: "field" }, el("span", { text: "method" }), el("input", { id: "q", type: "search", value: s.q, oninput: (e) => state.set({ q: e.target.value }) })),
      select("family", s.family, [["", "all"], ...families.map((f) => [f, f])], (family) => state.set({ family }), { id: "family" }),
      el("label", { class: "field" }, el("span", { text: "at most M parameters" }), el("input", { id: "max", type: "number", min: 0, step: "any", value: s.max, oninput: (e) => state.set({ max: e.target.value }) })),
      tick("merges", s.merges, (on) => state.set({ merges: on ? "1" : "" }), { id: "merges" }),
      tick("complete", s.whole, (on) => state.set({ whole: on ? "1" : "" }), { id: "whole" }),
      model.data.reported.some((part) => part.suite === state.board().suite) ? tick("published numbers", s.published, (on) => state.set({ published: on ? "1" : "" }), { id: "published" }) : null);
  }

  function head() {
    return [
      el("h1", { text: state.board().title }), ...boards(),
      el("p", { class: "note", id: "coverage", text: `${state.board().protocol.name}, weights: ${state.backbone().weights}. ${bench.about.coverage(state.board(), state.backbone())}` }),
      el("div", { class: "row" }, tabs("view", "view", Object.entries(VIEWS), state.get().view, (view) => state.set({ view }, true)),
        tabs("mean", "mean", Object.entries(MEANS), state.mean(), (mean) => state.set({ mean }))),
      el("details", { id: "choose", open: state.open("choose") }, el("summary", { text: "Filter and choose" }),
        ["table", "plot"].includes(state.get().view) ? filters() : null,
        el("div", { class: "row" }, datasets(), state.get().view === "table" ? columns() : null)),
    ];
  }

  // Puts the focus, and what was typed so far, back where they were.
  function keepFocus(change) {
    const old = document.activeElement;
    const [id, from] = [old && old.id, old && old.selectionStart];
    change();
    const next = id && document.getElementById(id);
    if (!next || next === document.activeElement) return;
    next.focus({ preventScroll: true });
    if (typeof from === "number" && next.type === "search") next.setSelectionRange(from, from);
  }

  function draw() {
    const { cell, ...rest } = state.get();
    const key = JSON.stringify(rest);
    if (key !== drawn) {
      drawn = key;
      keepFocus(() => {
        const views = { table: bench.table, plot: bench.scatter, compare: bench.compare, reported: bench.reported, about: bench.about };
        const view = views[rest.view] ? rest.view : "table";
        const parts = views[view].draw();
        const scroll = document.querySelector("main .scroll");
        const [left, top] = scroll ? [scroll.scrollLeft, scroll.scrollTop] : [0, 0];
        document.getElementById("head").replaceChildren(...head().filter(Boolean));
        document.getElementById("main").replaceChildren(...parts.flat(Infinity).filter(Boolean));
        const again = document.querySelector("main .scroll");
        if (again) [again.scrollLeft, again.scrollTop] = [left, top];
      });
      document.title = heading();
      bench.dom.say(`${state.rows().length} rows`);
    }
    bench.run.draw();
  }

  return { draw, heading, MEANS };
})();

if (bench.model.data.boards.length) bench.main.draw();
else document.getElementById("main").textContent = "No leaderboards: the results folder has no records.";
