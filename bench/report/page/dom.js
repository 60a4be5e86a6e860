// Elements and numbers. Text goes in by textContent alone: records are data, never HTML.
bench.dom = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  function build(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (name === "text") node.textContent = value;
      else if (name === "value" || name === "checked" || name === "selected") node[name] = value;
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    for (const child of children.flat(Infinity)) if (child !== null && child !== undefined && child !== false) node.append(child);
    return node;
  }

  const el = (name, attributes, ...children) => build(document.createElement(name), attributes, children);
  const svg = (name, attributes, ...children) => build(document.createElementNS(SVG, name), attributes, children);

  const DASH = "–";
  const missing = (x) => x === null || x === undefined || Number.isNaN(x);

  // Digits after the point; halfway cases go to the even digit, as in the tables that Python writes.
  function rounded(x, digits) {
    const halfway = Math.abs((x * 2 ** (digits + 1)) % 2) === 1; // exact, and no other binary fraction is halfway
    return (halfway ? (2 * Math.round((x * 10 ** digits) / 2)) / 10 ** digits : x).toFixed(digits);
  }
  const significant = (x) => Number(rounded(x, x ? Math.max(0, 2 - Math.floor(Math.log10(Math.abs(x)))) : 0));

  const fixed = (digits) => (x) => (missing(x) ? DASH : rounded(x, digits));
  const one = fixed(1);
  const signed = (x, digits = 2) => (missing(x) ? DASH : `${x < 0 ? "−" : "+"}${rounded(Math.abs(x), digits)}`);
  const pText = (p) => (missing(p) ? DASH : p < 0.0005 ? "<0.001" : p.toFixed(3));

  // 12345 -> 12.3k
  function human(x) {
    if (missing(x)) return DASH;
    const units = [["", 1], ["k", 1e3], ["M", 1e6], ["G", 1e9]];
    const [unit, scale] = units.find(([u, s]) => Math.abs(x) < 999.5 * s || u === "G");
    return significant(x / scale) + unit;
  }

  // Three significant digits, without an exponent.
  function three(x) {
    if (missing(x)) return DASH;
    if (Math.abs(x) >= 100) return rounded(x, 0);
    return x !== 0 && Math.abs(x) < 1e-4 ? x.toFixed(6) : String(significant(x));
  }

  const select = (label, value, options, onchange, attributes = {}) =>
    el("label", { class: "field" }, el("span", { text: label }),
      el("select", { ...attributes, onchange: (event) => onchange(event.target.value) },
        options.map(([key, text]) => el("option", { value: key, selected: key === value, text }))));

  const tick = (label, checked, onchange, attributes = {}) =>
    el("label", { class: "tick" },
      el("input", { type: "checkbox", checked, ...attributes, onchange: (event) => onchange(event.target.checked) }),
      el("span", { text: label }));

  const plainTable = (heads, rows, attributes = {}) =>
    el("div", { class: "scroll" }, el("table", attributes,
      el("thead", {}, el("tr", {}, heads.map((text, i) => el("th", { scope: "col", class: i ? "number" : "", text })))),
      el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, i) =>
        el(i ? "td" : "th", { scope: i ? null : "row", class: i ? "number" : "" }, cell)))))));

  const say = (text) => { document.getElementById("live").textContent = text; };

  return { el, svg, DASH, missing, fixed, one, signed, pText, human, three, select, tick, plainTable, say };
})();
