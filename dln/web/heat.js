// Heat maps: a cell for each pair of values of two keys, on a canvas, with keys and a read-out.
"use strict";

/**
 * What a heat map shows. Rows go upwards, as values on an axis do.
 * @typedef {object} HeatSpec
 * @property {string} label What it is of, for those who do not see it.
 * @property {{label: string, ticks: string[]}} x
 * @property {{label: string, ticks: string[]}} y
 * @property {string} valueLabel
 * @property {ArrayLike<number>} values Row after row; NaN where there is none.
 * @property {string[]} [states] What else is to be said of a cell ("3 of 10 diverged").
 * @property {boolean[]} [crossed] Which cells have a cross: where runs diverged.
 * @property {boolean} [log]
 * @property {number} [picked] The number of the cell that is marked.
 */

(function (dln) {
  const LEFT = 84;
  const BOTTOM = 52;
  const TOP = 8;
  const RIGHT = 12;

  /**
   * Make a heat map in an element, to be filled by `draw`.
   * @param {HTMLElement} host
   * @param {{onPick?: (cell: number) => void}} options
   */
  dln.heat = function (host, { onPick = null } = {}) {
    const canvas = dln.element("canvas", {
      class: "plot",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "heat map",
    });
    const readout = dln.element("div", { class: "readout", hidden: true });
    const spoken = dln.element("div", { class: "unseen", role: "status" });
    const bar = dln.element("div", { class: "bar" });
    host.classList.add("figure");
    host.append(canvas, readout, bar, spoken);
    canvas.style.display = "block";

    /** @type {HeatSpec} */
    let spec = null;
    let at = -1;
    let range = null;

    const across = () => spec.x.ticks.length;
    const down = () => spec.y.ticks.length;

    function geometry() {
      const width = Math.max(host.clientWidth, 160);
      const cell = (width - LEFT - RIGHT) / across();
      const height = Math.min(Math.max(down() * Math.min(cell, 34), 80), 460);
      return { width, height: height + TOP + BOTTOM, cellWidth: cell, cellHeight: height / down() };
    }

    function shade(value) {
      const [low, high] = range;
      const to = spec.log ? Math.log : (v) => v;
      return dln.ramp(high > low ? (to(value) - to(low)) / (to(high) - to(low)) : 0.5);
    }

    function known(value) {
      return Number.isFinite(value) && !(spec.log && value <= 0);
    }

    function paint() {
      if (!spec || !across() || !down()) return;
      const colour = (name) => dln.colour(name, host);
      const { width, height, cellWidth, cellHeight } = geometry();
      canvas.width = width * devicePixelRatio;
      canvas.height = height * devicePixelRatio;
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
      const context = canvas.getContext("2d");
      context.scale(devicePixelRatio, devicePixelRatio);
      const [muted, missing, ink, paper] = ["--muted", "--missing", "--ink", "--paper"].map(colour);
      range = dln.extent([spec.values], spec.log);
      for (let row = 0; row < down(); row++) {
        for (let column = 0; column < across(); column++) {
          const cell = row * across() + column;
          const [x, y] = corner(cell, cellWidth, cellHeight);
          context.fillStyle = known(spec.values[cell]) ? shade(spec.values[cell]) : missing;
          context.fillRect(x, y, cellWidth + 0.5, cellHeight + 0.5);
          if (spec.crossed?.[cell])
            crossed(context, x + cellWidth / 2, y + cellHeight / 2, Math.min(cellWidth, cellHeight), ink, paper);
        }
      }
      ticks(context, muted, cellWidth, cellHeight, width, height);
      if (spec.picked >= 0) outlined(context, spec.picked, cellWidth, cellHeight, ink, 3, paper);
      if (at >= 0) outlined(context, at, cellWidth, cellHeight, colour("--focus"), 2, paper);
    }

    function corner(cell, cellWidth, cellHeight) {
      const [row, column] = [Math.floor(cell / across()), cell % across()];
      return [LEFT + column * cellWidth, TOP + (down() - 1 - row) * cellHeight];
    }

    function outlined(context, cell, cellWidth, cellHeight, colour, thick, around) {
      const [x, y] = corner(cell, cellWidth, cellHeight);
      for (const [style, width] of [
        [around, thick + 2],
        [colour, thick],
      ]) {
        context.strokeStyle = style;
        context.lineWidth = width;
        context.strokeRect(x + 1, y + 1, cellWidth - 2, cellHeight - 2);
      }
    }

    function crossed(context, x, y, size, colour, around) {
      const arm = Math.min(size / 4, 5);
      for (const [style, width] of [
        [around, 3.5],
        [colour, 1.5],
      ]) {
        context.strokeStyle = style;
        context.lineWidth = width;
        dln.strokeCross(context, x, y, arm);
      }
    }

    function ticks(context, colour, cellWidth, cellHeight, width, height) {
      context.fillStyle = colour;
      context.font = "12px system-ui, sans-serif";
      const widest = Math.max(...spec.x.ticks.map((text) => context.measureText(text).width)) + 8;
      const strideX = Math.max(1, Math.ceil(Math.min(widest, 90) / cellWidth));
      const strideY = Math.max(1, Math.ceil(14 / cellHeight));
      context.textBaseline = "top";
      context.textAlign = "center";
      spec.x.ticks.forEach((text, i) => {
        if (i % strideX === 0) context.fillText(cut(text, 12), LEFT + (i + 0.5) * cellWidth, height - BOTTOM + 4);
      });
      context.fillText(spec.x.label, LEFT + (width - LEFT - RIGHT) / 2, height - 22);
      context.textAlign = "right";
      context.textBaseline = "middle";
      spec.y.ticks.forEach((text, i) => {
        if (i % strideY === 0) context.fillText(cut(text, 9), LEFT - 6, TOP + (down() - i - 0.5) * cellHeight);
      });
      context.save();
      context.translate(10, TOP + (height - TOP - BOTTOM) / 2);
      context.rotate(-Math.PI / 2);
      context.textAlign = "center";
      context.fillText(spec.y.label, 0, 0);
      context.restore();
    }

    function cut(text, length) {
      return text.length > length ? `${text.slice(0, length - 1)}…` : text;
    }

    function scaleBar() {
      bar.replaceChildren();
      if (!range) return;
      const strip = dln.element("canvas", { width: 128, height: 1, "aria-hidden": "true" });
      const context = strip.getContext("2d");
      for (let i = 0; i < 128; i++) {
        context.fillStyle = dln.ramp(i / 127);
        context.fillRect(i, 0, 1, 1);
      }
      const kind = spec.log ? " (log)" : "";
      const legend = [
        dln.element("span", { text: `${spec.valueLabel}${kind}: ${dln.number(range[0])}` }),
        strip,
        dln.element("span", { text: dln.number(range[1]) }),
      ];
      if (spec.crossed?.some(Boolean)) legend.push(dln.element("span", { text: "× some or all diverged" }));
      bar.append(...legend);
    }

    function told(cell) {
      const [row, column] = [Math.floor(cell / across()), cell % across()];
      const value = known(spec.values[cell]) ? dln.number(spec.values[cell]) : "no value";
      const state = spec.states?.[cell] ? `, ${spec.states[cell]}` : "";
      return `${spec.x.label} ${spec.x.ticks[column]}, ${spec.y.label} ${spec.y.ticks[row]}: ${spec.valueLabel} ${value}${state}`;
    }

    function cellAt(event) {
      const { cellWidth, cellHeight } = geometry();
      const column = Math.floor((event.offsetX - LEFT) / cellWidth);
      const row = down() - 1 - Math.floor((event.offsetY - TOP) / cellHeight);
      return column >= 0 && column < across() && row >= 0 && row < down() ? row * across() + column : -1;
    }

    function show(cell) {
      readout.hidden = cell < 0;
      if (cell < 0) return;
      const { cellWidth, cellHeight } = geometry();
      const [x, y] = corner(cell, cellWidth, cellHeight);
      readout.textContent = told(cell);
      const left = x > host.clientWidth / 2 ? x - readout.offsetWidth - 4 : x + cellWidth + 4;
      readout.style.left = `${Math.max(0, left)}px`;
      readout.style.top = `${canvas.offsetTop + y}px`;
    }

    canvas.addEventListener("mousemove", (event) => spec && show(cellAt(event)));
    canvas.addEventListener("mouseleave", () => (readout.hidden = true));
    canvas.addEventListener("click", (event) => {
      const cell = spec ? cellAt(event) : -1;
      if (cell >= 0 && onPick) onPick(cell);
    });
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      if (!spec || event.ctrlKey || event.metaKey || event.altKey) return;
      if (moves[event.key]) {
        const [row, column] = at < 0 ? [0, 0] : [Math.floor(at / across()), at % across()];
        const [right, up] = at < 0 ? [0, 0] : moves[event.key];
        const next = [row + up, column + right];
        if (next[0] >= 0 && next[0] < down() && next[1] >= 0 && next[1] < across()) at = next[0] * across() + next[1];
        paint();
        show(at);
        spoken.textContent = told(at);
      } else if ((event.key === "Enter" || event.key === " ") && at >= 0 && onPick) onPick(at);
      else return;
      event.preventDefault();
    });
    canvas.addEventListener("blur", () => {
      at = -1;
      readout.hidden = true;
      paint();
    });

    /** Show a spec. @param {HeatSpec} wanted */
    function draw(wanted) {
      spec = wanted;
      if (at >= spec.values.length) at = -1;
      const keys = onPick ? " Arrow keys: between cells. Enter: its curves." : " Arrow keys: between cells.";
      canvas.setAttribute("aria-label", `${spec.label}: ${across()} by ${down()} cells.${keys}`);
      paint();
      scaleBar();
    }

    const forget = dln.onTheme(paint);
    const watcher = new ResizeObserver(paint);
    watcher.observe(host);

    function destroy() {
      forget();
      watcher.disconnect();
      host.replaceChildren();
      host.classList.remove("figure");
    }

    return { draw, destroy, spec: () => spec };
  };
})(window.dln);
