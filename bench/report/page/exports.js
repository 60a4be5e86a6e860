// The table as it is shown, for papers and machines; the plot as a picture.
bench.exports = (() => {
  const { el, missing } = bench.dom;
  const { state } = bench;

  const grid = () => {
    const cols = bench.table.columns();
    const rows = bench.table.sorted(state.rows(), cols);
    return { cols, rows };
  };

  function csv() {
    const { cols, rows } = grid();
    const quote = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const safe = (text) => (/^\s*[=+\-@]/.test(text) ? `'${text}` : text); // or a spreadsheet takes it for a formula
    const number = (x) => (missing(x) ? "" : typeof x === "number" ? String(Number(x.toPrecision(10))) : safe(x));
    const heads = ["method", "variant", ...cols.filter((c) => c.key !== "rank").map((c) => c.key), "rank_best", "rank_worst", "ci95_low", "ci95_high", "bound_low", "bound_high"];
    const lines = rows.map((r) => [r.row.method, r.row.variant, ...cols.filter((c) => c.key !== "rank").map((c) => c.value(r)), r.best, r.worst, r.low, r.high, ...r.bound]);
    return [heads, ...lines].map((line) => line.map((x) => quote(number(x))).join(",")).join("\n") + "\n";
  }

  function markdown() {
    const { cols, rows } = grid();
    const safe = (text) => text.replaceAll("|", "\\|");
    const cell = (c, r) => (c.strong && c.strong(r) ? `**${c.cell(r)}**` : c.cell(r));
    return [
      ["method", ...cols.map((c) => c.label)], [":--", ...cols.map(() => "--:")],
      ...rows.map((r) => [r.label, ...cols.map((c) => cell(c, r))]),
    ].map((line) => `| ${line.map(safe).join(" | ")} |`).join("\n") + "\n";
  }

  function latex() {
    const { cols, rows } = grid();
    const marks = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" };
    const safe = (text) => text.replace(/[\\~^&%$#_{}]/g, (c) => marks[c] || `\\${c}`).replaceAll("±", "$\\pm$").replaceAll("–", "--").replaceAll("†", "$^\\dagger$").replaceAll("‡", "$^\\ddagger$");
    const cell = (c, r) => {
      const text = safe(c.cell(r));
      return c.strong && c.strong(r) ? `\\textbf{${text}}` : c.under && c.under(r) ? `\\underline{${text}}` : text;
    };
    return ["% needs \\usepackage{booktabs}", `\\begin{tabular}{l${"r".repeat(cols.length)}}`, "\\toprule",
      `${["method", ...cols.map((c) => safe(c.label))].join(" & ")} \\\\`, "\\midrule",
      ...rows.map((r) => `${[safe(r.label), ...cols.map((c) => cell(c, r))].join(" & ")} \\\\`),
      "\\bottomrule", "\\end{tabular}", ""].join("\n");
  }

  // The plot with its styles written into it, so that it stands alone.
  function picture() {
    const plot = document.getElementById("plot");
    if (!plot) return "";
    const copy = plot.cloneNode(true);
    const [from, to] = [plot, copy].map((root) => [root, ...root.querySelectorAll("*")]);
    const names = ["fill", "stroke", "stroke-width", "stroke-dasharray", "font-size", "font-family", "font-weight", "opacity"];
    from.forEach((node, i) => names.forEach((name) => to[i].setAttribute(name, getComputedStyle(node).getPropertyValue(name))));
    return new XMLSerializer().serializeToString(copy);
  }

  const KINDS = { CSV: [csv, "csv"], Markdown: [markdown, "md"], LaTeX: [latex, "tex"], SVG: [picture, "svg"] };

  function show(kind) {
    const [make, ending] = KINDS[kind];
    const text = make();
    const panel = document.getElementById("panel");
    const name = `${state.board().name}-${state.backbone().name}.${ending}`.replace(/[^A-Za-z0-9._-]+/g, "-");
    panel.replaceChildren(
      el("button", { class: "close", "aria-label": "Close", text: "×", onclick: () => panel.close() }),
      el("h2", { id: "panel-title", text: `${kind} of what is shown` }),
      el("p", {}, el("a", { id: "download", class: "button", download: name, href: URL.createObjectURL(new Blob([text])), text: `Save ${name}` })),
      el("textarea", { id: "export", readonly: true, rows: 18, "aria-label": kind, value: text }));
    panel.onclose = null;
    panel.showModal();
  }

  const draw = () => el("div", { class: "exports", role: "group", "aria-label": "export" },
    Object.keys(KINDS).filter((kind) => (kind === "SVG") === (state.get().view === "plot")).map((kind) => el("button", { id: `export-${kind}`, text: kind, onclick: () => show(kind) })));

  return { draw, csv, markdown, latex, picture };
})();
