// The section of the phase diagram: any final value or event over any two keys, and the curves of a cell.
"use strict";

(function (dln) {
  const STATISTICS = {
    mean: "mean",
    median: "median",
    min: "smallest",
    max: "largest",
  };

  /** Return how some values of rows are summarised; each row is of so many runs. */
  function summarised(values, weights, statistic) {
    if (!values.length) return NaN;
    if (statistic === "mean") {
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      return values.reduce((sum, value, i) => sum + value * weights[i], 0) / total;
    }
    if (statistic === "min") return Math.min(...values);
    if (statistic === "max") return Math.max(...values);
    const sorted = [...values].sort((a, b) => a - b);
    const middle = (sorted.length - 1) / 2;
    return (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
  }

  /**
   * Return the cells of a map: a value, how many runs, and how many of them diverged, row by row of the map.
   * Runs that diverged have no final value; their events count.
   */
  dln.cellsOf = function (part, x, y, value, statistic) {
    const size = (y ? y.texts.length : 1) * x.texts.length;
    const gathered = Array.from({ length: size }, () => ({ values: [], weights: [], runs: 0, diverged: 0 }));
    const allowed = part.keys.map((key) => [part.place[key.name], dln.chosenPlaces(key)]);
    const event = part.rows.events.includes(value);
    const values = value === "*diverged" ? null : part.value(value);
    for (let row = 0; row < part.rows.rows; row++) {
      if (!allowed.every(([place, places]) => places[place[row]])) continue;
      const cell = gathered[(y ? part.place[y.name][row] : 0) * x.texts.length + part.place[x.name][row]];
      const [runs, lost] = [part.row.runs[row], part.row.diverged[row]];
      cell.runs += runs;
      cell.diverged += lost;
      const counted = event ? runs : runs - lost;
      if (values && counted > 0 && Number.isFinite(values[row])) {
        cell.values.push(values[row]);
        cell.weights.push(counted);
      }
    }
    return gathered.map((cell) => ({
      runs: cell.runs,
      diverged: cell.diverged,
      value:
        value === "*diverged"
          ? cell.runs
            ? cell.diverged / cell.runs
            : NaN
          : summarised(cell.values, cell.weights, statistic),
    }));
  };

  /** Fill a section with the map of a part; null, and an empty section, where no key varies. */
  dln.mapView = function (host, part, curves) {
    const keys = part.keys.filter((key) => key.texts.length > 1);
    if (!keys.length || part.kind !== "sweep") return null;
    const options = (some) => some.map((key) => ({ value: key.name, text: key.name }));
    const values = [
      ...part.rows.values.map((name) => ({
        value: name,
        text: part.rows.events.includes(name) ? `${name} (event)` : `final ${name}`,
      })),
    ];
    const order = (a, b) =>
      Number(/^(diverged|stopped|interrupted)_at/.test(a.value)) -
      Number(/^(diverged|stopped|interrupted)_at/.test(b.value));
    const controls = {
      value: dln.choice("map", "value", () => [
        ...values.sort(order),
        { value: "*diverged", text: "share of runs that diverged" },
      ]),
      statistic: dln.choice("mapof", "of runs in a cell", () => {
        const known = part.rows.summed ? ["mean"] : Object.keys(STATISTICS);
        return known.map((value) => ({ value, text: STATISTICS[value] }));
      }),
      x: dln.choice("mapx", "across", () => options(keys)),
      y: dln.choice("mapy", "up", () => upwards()),
      log: dln.choice("maplog", "colours", () => ["auto", "linear", "log"].map((value) => ({ value, text: value }))),
    };
    const heatHost = dln.element("div");
    const cellHost = dln.element("div", { "aria-live": "polite" });
    host.append(
      dln.element("div", { class: "controls" }, ...Object.values(controls).map(({ made }) => made)),
      dln.element("div", { class: "panels" }, heatHost, cellHost),
    );
    const heat = dln.heat(heatHost, { onPick: pick });
    let chart = null;

    /** Return what rows may be: other keys, those that are averaged over last; or there is one row. */
    function upwards() {
      const [seeds, own] = [true, false].map((averaged) =>
        keys.filter((key) => part.over.includes(key.name) === averaged),
      );
      const nothing = { value: "*", text: "nothing" };
      return [...options(own.slice(1)), nothing, ...options([...own.slice(0, 1), ...seeds])];
    }

    function axes() {
      const x = part.key(controls.x.value());
      const chosen = part.key(controls.y.value());
      return { x, y: chosen && chosen !== x ? chosen : null };
    }

    function pick(cell) {
      const { x, y } = axes();
      const texts = [x.texts[cell % x.texts.length], y ? y.texts[Math.floor(cell / x.texts.length)] : ""];
      const same = dln.state.get("cellx") === texts[0] && dln.state.get("celly") === texts[1];
      dln.state.set({ cellx: same ? null : texts[0], celly: same ? null : texts[1] });
    }

    function picked(x, y) {
      const column = x.texts.indexOf(dln.state.get("cellx"));
      const row = y ? y.texts.indexOf(dln.state.get("celly")) : 0;
      return column >= 0 && row >= 0 ? row * x.texts.length + column : -1;
    }

    function render() {
      for (const control of Object.values(controls)) control.sync();
      const { x, y } = axes();
      const value = controls.value.value();
      const cells = dln.cellsOf(part, x, y, value, controls.statistic.value());
      controls.statistic.made.hidden = part.rows.summed || value === "*diverged";
      const numbers = cells.map((cell) => cell.value);
      const [all, positive] = [dln.extent([numbers], false), dln.extent([numbers], true)];
      const chosen = controls.log.value();
      const log = chosen === "log" || (chosen === "auto" && all && positive && all[0] > 0 && all[1] / all[0] > 20);
      const name = value === "*diverged" ? "share diverged" : value;
      heat.draw({
        label: `${name} over ${x.name}${y ? ` and ${y.name}` : ""}`,
        x: { label: x.short, ticks: x.texts },
        y: { label: y ? y.short : "", ticks: y ? y.texts : [""] },
        valueLabel: name,
        values: numbers,
        states: cells.map((cell) =>
          !cell.runs ? "not run" : cell.diverged ? `${cell.diverged} of ${cell.runs} diverged` : "",
        ),
        crossed: cells.map((cell) => cell.diverged > 0),
        log: Boolean(log),
        picked: picked(x, y),
      });
      drawCell(x, y);
    }

    /** Draw the curves of the cell that was picked, as the section of curves draws them. */
    function drawCell(x, y) {
      const cell = picked(x, y);
      if (cell < 0) {
        if (chart) chart.destroy();
        chart = null;
        cellHost.replaceChildren(dln.element("p", { class: "muted", text: "Pick a cell to see its curves." }));
        return;
      }
      const places = new Map([
        [x.name, cell % x.texts.length],
        [y?.name, Math.floor(cell / x.texts.length)],
      ]);
      const conditions = dln.chosenConditions(part, (condition) =>
        part.by.every((key) => !places.has(key.name) || part.placeOf(condition, key) === places.get(key.name)),
      );
      const [panel] = dln.panelsOf(part, dln.state.get("metric") || dln.metrics(part)[0].value);
      const where = `${x.short} ${x.texts[places.get(x.name)]}${y ? `, ${y.short} ${y.texts[places.get(y.name)]}` : ""}`;
      if (!chart) {
        const heading = dln.element("h3", { id: "cell" });
        const inner = dln.element("div");
        const back = dln.element("button", {
          type: "button",
          text: "no cell",
          on: { click: () => dln.state.set({ cellx: null, celly: null }) },
        });
        cellHost.replaceChildren(heading, inner, back);
        chart = dln.chart(inner, { height: 260 });
      }
      cellHost.firstChild.textContent = `${panel.title} where ${where}`;
      chart.draw(curves.specOf(`${panel.title} where ${where}`, panel.columns, conditions));
    }

    return { render, heat, chart: () => chart };
  };
})(window.dln);
