// Charts: uPlot's axes, cursor and zoom, with curves and bands of our own, a legend, a read-out, keys and a table.
"use strict";

/**
 * What a chart shows.
 * @typedef {object} Spec
 * @property {string} label What it is of, for those who do not see it, and the name of exported files.
 * @property {{label: string, log?: boolean}} x
 * @property {{label: string, log?: boolean}} y
 * @property {Curve[]} curves
 * @property {{y: number, label?: string, colour?: string}[]} [levels] Dotted, horizontal.
 * @property {{x: number, label?: string, colour?: string}[]} [marks] Dotted, upright.
 */

(function (dln) {
  const KEYS = "Arrow keys: along a curve and between curves. Plus and minus: zoom. Escape: all.";
  const SHOWN = 6;
  let count = 0;

  const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

  /**
   * Make a chart in an element, to be filled by `draw`.
   * @param {HTMLElement} host
   * @param {{height?: number, table?: boolean, onPick?: (curve: Curve, index: number) => void}} options
   */
  dln.chart = function (host, { height = 260, table = true, onPick = null } = {}) {
    const id = `chart-${++count}`;
    const keys = dln.element("ul", { class: "keys" });
    const plot = dln.element("div", {
      class: "plot",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "chart",
      "aria-describedby": `${id}-keys`,
    });
    const readout = dln.element("div", { class: "readout", hidden: true });
    const spoken = dln.element("div", { class: "unseen", role: "status" });
    const note = dln.element("p", { class: "muted", hidden: true });
    const values = dln.element(
      "details",
      { class: "no-print" },
      dln.element("summary", { class: "muted", text: "values as a table" }),
    );
    host.classList.add("figure");
    host.append(
      keys,
      plot,
      readout,
      note,
      dln.element("span", { class: "unseen", id: `${id}-keys`, text: KEYS }),
      spoken,
    );
    if (table) host.append(values);

    let u = null;
    let made = "";
    /** @type {Spec} */
    let spec = null;
    let full = null;
    const ticks = {};
    let at = null; // the point that the keyboard is on: { curve, index }

    const colours = new Map();
    const colour = (name) => {
      if (!colours.has(name)) colours.set(name, dln.colour(name, host));
      return colours.get(name);
    };

    // uPlot's own axes run from 0 to 1 over the whole range: it draws no ticks where numbers have many digits.
    const bent = (key) => (spec[key].log ? [Math.log, Math.exp] : [(value) => value, (value) => value]);

    function fraction(key, value) {
      const [to] = bent(key);
      const [low, high] = [to(full[key].min), to(full[key].max)];
      return (to(value) - low) / (high - low);
    }

    function valueAt(key, part) {
      const [to, from] = bent(key);
      const [low, high] = [to(full[key].min), to(full[key].max)];
      return part === 0 ? full[key].min : part === 1 ? full[key].max : from(low + part * (high - low));
    }

    function scale(key) {
      const [min, max] = [u.scales[key].min, u.scales[key].max].map((part) => valueAt(key, part));
      return { min, max, log: Boolean(spec[key].log) };
    }

    const place = (box) => dln.placed(box, scale("x"), scale("y"));
    const overBox = () => ({ left: 0, top: 0, width: u.over.clientWidth, height: u.over.clientHeight });

    function axis(key) {
      const room = key === "x" ? 75 : 30;
      return {
        scale: key,
        label: key === "y" ? shortened(spec[key].label, height / 8) : spec[key].label,
        labelSize: 20,
        size: key === "x" ? 34 : 62,
        stroke: () => colour("--muted"),
        grid: { stroke: () => colour("--line"), width: 1 },
        ticks: { stroke: () => colour("--line"), width: 1, size: 4 },
        font: "12px system-ui, sans-serif",
        labelFont: "13px system-ui, sans-serif",
        splits: (self, number, min, max) => {
          const length = (key === "x" ? self.bbox.width : self.bbox.height) / devicePixelRatio;
          const ends = [valueAt(key, min), valueAt(key, max)];
          ticks[key] = (spec[key].log ? dln.logTicks : dln.linearTicks)(
            ...ends,
            Math.max(2, Math.floor(length / room)),
          );
          return ticks[key].map((tick) => fraction(key, tick));
        },
        filter: (self, splits) => splits,
        values: () => ticks[key].map((tick) => dln.number(tick, 3)),
      };
    }

    function open() {
      if (u) u.destroy();
      plot.replaceChildren();
      const whole = { time: false, auto: false, min: 0, max: 1, range: (self, min, max) => [min, max] };
      u = new uPlot(
        {
          width: Math.max(host.clientWidth, 120),
          height,
          scales: { x: { ...whole }, y: { ...whole } },
          axes: [axis("x"), axis("y")],
          series: [{}, { scale: "y", paths: () => null, points: { show: false } }],
          legend: { show: false },
          cursor: {
            points: { show: false },
            drag: { x: true, y: true, uni: 25, setScale: true },
            bind: { dblclick: () => () => reset() },
          },
          hooks: {
            draw: [(self) => dln.drawCurves(self.ctx, place(self.bbox), spec, colour, devicePixelRatio)],
            setCursor: [hover],
          },
        },
        [
          [0, 1],
          [0, 1],
        ],
        plot,
      );
      u.over.addEventListener("mouseleave", () => (readout.hidden = true));
      u.over.addEventListener("click", (event) => {
        if (!onPick) return;
        const [best] = dln.nearest(place(overBox()), spec.curves, event.offsetX, event.offsetY);
        if (best && best.distance < 12) onPick(spec.curves[best.curve], best.index);
      });
    }

    function zoom(x, y) {
      const parts = { x: [x.min, x.max], y: [y.min, y.max] };
      u.batch(() => {
        for (const key of ["x", "y"]) {
          const [min, max] = parts[key].map((value) => fraction(key, value));
          u.setScale(key, { min, max });
        }
      });
    }

    function reset() {
      zoom(full.x, full.y);
    }

    /** Zoom by a factor around the middle, or the point that the keyboard is on. */
    function closer(factor) {
      const narrowed = ["x", "y"].map((key) => {
        const { min, max } = scale(key);
        const [to, from] = bent(key);
        const [low, high] = [to(min), to(max)];
        const middle = at ? to(spec.curves[at.curve][key][at.index]) : (low + high) / 2;
        const half = ((high - low) / 2) * factor;
        const centre = Number.isFinite(middle) ? middle : (low + high) / 2;
        return { min: from(centre - half), max: from(centre + half) };
      });
      zoom(...narrowed);
    }

    function hover(self) {
      const { left, top } = self.cursor;
      if (left === undefined || left < 0 || top < 0 || !spec) return void (readout.hidden = true);
      show(dln.nearest(place(overBox()), spec.curves, left, top).slice(0, SHOWN), left, top);
    }

    function told({ curve, index }) {
      const one = spec.curves[curve];
      const band = one.low ? ` (${dln.number(one.low[index])} to ${dln.number(one.high[index])})` : "";
      const step = one.steps ? `, step ${dln.number(one.steps[index], 6)}` : "";
      return `${one.label ? `${one.label}: ` : ""}${dln.number(one.y[index])}${band}${step}`;
    }

    function show(points, left, top) {
      readout.hidden = !points.length;
      if (!points.length) return;
      const first = points[0];
      const x = spec.curves[first.curve].x[first.index];
      const same = points.filter((point) => spec.curves[point.curve].x[point.index] === x);
      readout.replaceChildren(
        dln.element("div", { text: `${spec.x.label} ${dln.number(x, 6)}` }),
        ...same.map((point, i) => {
          const row = dln.element("div", { text: told(point) });
          row.style.borderLeft = `3px solid ${colour(spec.curves[point.curve].colour || "--ink")}`;
          row.style.paddingLeft = "4px";
          row.style.fontWeight = i ? "400" : "600";
          return row;
        }),
      );
      const offset = u.over.offsetLeft + plot.offsetLeft;
      const across = left > u.over.clientWidth / 2 ? left - readout.offsetWidth - 12 : left + 12;
      readout.style.left = `${Math.max(0, Math.min(offset + across, host.clientWidth - readout.offsetWidth))}px`;
      readout.style.top = `${plot.offsetTop + u.over.offsetTop + Math.max(0, top - readout.offsetHeight / 2)}px`;
    }

    plot.addEventListener("keydown", (event) => {
      const moves = {
        ArrowLeft: [0, -1],
        ArrowRight: [0, 1],
        ArrowUp: [-1, 0],
        ArrowDown: [1, 0],
        Home: [0, -Infinity],
        End: [0, Infinity],
      };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "+" || event.key === "=") closer(0.5);
      else if (event.key === "-") closer(2);
      else if (event.key === "Escape") reset();
      else if (event.key === "Enter" && at && onPick) onPick(spec.curves[at.curve], at.index);
      else if (moves[event.key] && spec.curves.length) step(...moves[event.key]);
      else return;
      event.preventDefault();
    });
    plot.addEventListener("blur", () => (readout.hidden = true));

    function step(curves, points) {
      const curve = at ? (at.curve + curves + spec.curves.length) % spec.curves.length : 0;
      const last = spec.curves[curve].x.length - 1;
      if (last < 0) return;
      at = { curve, index: Math.min(Math.max((at ? at.index : 0) + (at ? points : 0), 0), last) };
      const found = place(overBox());
      const [left, top] = [found.x(spec.curves[curve].x[at.index]), found.y(spec.curves[curve].y[at.index])];
      show([at], Number.isFinite(left) ? left : 0, Number.isFinite(top) ? top : 0);
      spoken.textContent = readout.innerText.replaceAll("\n", ", ");
    }

    const inLegend = () => spec.curves.filter((curve) => curve.label && curve.legend !== false);

    /** Say what a logarithmic axis leaves out. */
    function leftOut() {
      const reachesZero = (values) => Array.prototype.some.call(values ?? [], (value) => value <= 0);
      const lost = ["x", "y"].filter((key) => spec[key].log && spec.curves.some((curve) => reachesZero(curve[key])));
      const said = [];
      const names = lost.map((key) => spec[key].label).join(" and ");
      if (lost.length) said.push(`Not shown: values of ${names} that are zero or negative (logarithmic axis).`);
      if (spec.y.log && spec.curves.some((curve) => reachesZero(curve.low)))
        said.push("Of bands that reach zero the upper half is drawn.");
      note.hidden = !said.length;
      note.textContent = said.join(" ");
    }

    const tabulate = () => values.replaceChildren(values.firstElementChild, ...dln.valuesTable(spec));
    values.addEventListener("toggle", () => values.open && tabulate());

    /** Show a spec. @param {Spec} wanted */
    function draw(wanted) {
      spec = wanted;
      at = null;
      colours.clear();
      readout.hidden = true;
      const firm = spec.curves.filter((curve) => !curve.loose);
      const fitted = firm.length ? firm : spec.curves;
      const extents = {
        x: dln.extent(
          spec.curves.flatMap((curve) => [curve.x, curve.crosses ?? []]),
          spec.x.log,
        ),
        y: dln.extent(
          fitted.flatMap((curve) => [curve.y, ...(curve.low && !spec.y.log ? [curve.low, curve.high] : [])]),
          spec.y.log,
        ),
      };
      full = { x: dln.limits(extents.x, spec.x.log, 0.005), y: dln.limits(extents.y, spec.y.log, 0.05) };
      for (const key of ["x", "y"]) delete full[key].log;
      const kind = JSON.stringify([spec.x.label, spec.y.label, spec.x.log, spec.y.log]);
      if (kind !== made || !u) open();
      else zoom(full.x, full.y);
      made = kind;
      u.redraw(false, true);
      plot.setAttribute(
        "aria-label",
        `${spec.label}: ${spec.curves.length} ${spec.curves.length === 1 ? "curve" : "curves"}, ${spec.y.label} against ${spec.x.label}`,
      );
      keys.replaceChildren(...dln.legendOf(inLegend()));
      leftOut();
      if (values.open) tabulate();
    }

    function recolour() {
      colours.clear();
      if (u) u.redraw(false, false);
    }
    const forget = dln.onTheme(recolour);
    const watcher = new ResizeObserver(() => {
      if (u && host.clientWidth && Math.abs(host.clientWidth - u.width) > 1)
        u.setSize({ width: host.clientWidth, height });
    });
    watcher.observe(host);

    const png = () => dln.pictureOf(u.ctx.canvas, inLegend(), colour);

    function destroy() {
      forget();
      watcher.disconnect();
      if (u) u.destroy();
      host.replaceChildren();
      host.classList.remove("figure");
    }

    return { draw, png, reset, destroy, spec: () => spec, scales: () => ({ x: scale("x"), y: scale("y") }) };
  };
})(window.dln);
