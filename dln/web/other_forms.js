// A chart in other forms: its legend, its values as a table, and its picture as a file.
"use strict";

(function (dln) {
  const ENTRIES = 30;
  const ROWS = 40;
  const COLUMNS = 12;

  /** Return the entries of a legend. @param {Curve[]} curves */
  dln.legendOf = function (curves) {
    const made = curves
      .slice(0, ENTRIES)
      .map((curve) => dln.element("li", {}, swatch(curve), dln.element("span", { text: curve.key ?? curve.label })));
    const left = curves.length - made.length;
    return left ? [...made, dln.element("li", { text: `and ${left} more` })] : made;
  };

  function swatch(curve) {
    const [svg, line] = ["svg", "line"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
    const set = (made, attributes) => Object.entries(attributes).forEach((pair) => made.setAttribute(...pair));
    set(svg, { width: 24, height: 8, "aria-hidden": "true" });
    set(line, { x1: 0, x2: 24, y1: 4, y2: 4 });
    line.style.stroke = curve.colour?.startsWith("--") ? `var(${curve.colour})` : curve.colour || "var(--ink)";
    line.style.strokeWidth = "2px";
    line.style.strokeDasharray = (curve.dash || []).join(" ");
    svg.append(line);
    return svg;
  }

  /** Return the values of a chart as a table, as many as one reads, and what is not in it. @param {Spec} spec */
  dln.valuesTable = function (spec) {
    const shown = spec.curves.slice(0, COLUMNS);
    const places = shown.map((curve) => new Map(Array.from(curve.x, (x, i) => [x, i])));
    const known = [...new Set(places.flatMap((place) => [...place.keys()]))].filter(Number.isFinite);
    const steps = known.sort((a, b) => a - b);
    const stride = Math.max(1, Math.ceil(steps.length / ROWS));
    const rows = steps.filter((_, i) => i % stride === 0 || i === steps.length - 1);
    const cells = (tag, texts) =>
      dln.element("tr", {}, ...texts.map((text) => dln.element(tag, { text, scope: tag === "th" ? "col" : null })));
    const value = (x) => (curve, i) => (places[i].has(x) ? dln.number(curve.y[places[i].get(x)]) : "-");
    const body = rows.map((x) => cells("td", [dln.number(x, 6), ...shown.map(value(x))]));
    const head = cells("th", [spec.x.label, ...shown.map((curve) => curve.label || spec.y.label)]);
    const more = [];
    if (stride > 1) more.push(`every ${stride}th of ${steps.length} rows`);
    if (spec.curves.length > shown.length) more.push(`${shown.length} of ${spec.curves.length} curves`);
    const told = dln.element(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": `values: ${spec.label}` },
      dln.element("table", {}, dln.element("thead", {}, head), dln.element("tbody", {}, ...body)),
    );
    return [dln.element("small", { text: more.join(", ") }), told];
  };

  /**
   * Return a chart as a PNG, with its legend below.
   * @param {HTMLCanvasElement} source
   * @param {Curve[]} curves Those in the legend.
   * @param {(name: string) => string} colour
   * @returns {Promise<Blob>}
   */
  dln.pictureOf = function (source, curves, colour) {
    const row = 18 * devicePixelRatio;
    const entries = curves.slice(0, ENTRIES);
    const canvas = dln.element("canvas", { width: source.width, height: source.height + entries.length * row });
    const context = canvas.getContext("2d");
    context.fillStyle = colour("--paper");
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(source, 0, 0);
    context.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    entries.forEach((curve, i) => {
      const y = source.height + (i + 0.5) * row;
      context.strokeStyle = colour(curve.colour || "--ink");
      context.lineWidth = 2 * devicePixelRatio;
      context.setLineDash((curve.dash || []).map((length) => length * devicePixelRatio));
      context.beginPath();
      context.moveTo(row, y);
      context.lineTo(2.5 * row, y);
      context.stroke();
      context.fillStyle = colour("--ink");
      context.fillText(curve.key ?? curve.label, 3 * row, y);
    });
    return new Promise((resolve) => canvas.toBlob(resolve));
  };
})(window.dln);
