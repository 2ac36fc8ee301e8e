// The section of curves: its controls, its panels, and what is said below them.
"use strict";

(function (dln) {
  const MOST_PANELS = 30;
  const MOST_CURVES = 2000;
  const MOST_BANDS = 30;
  const WIDE = 20; // a factor that positive values span, from which on their axis is logarithmic

  /** Return the names of columns that curves may be drawn over. */
  function overs(part) {
    const found = [{ value: "step", text: "step" }];
    if (part.columnNumber("time") >= 0 || hasRate(part)) found.push({ value: "time", text: "time (lr × step)" });
    const own = part.columns.filter((column) => !column.theory && column.name !== "time");
    return [...found, ...own.map((column) => ({ value: column.name, text: column.name }))];
  }

  /** Whether every run has one learning rate from its first step to its last. */
  function hasRate(part) {
    const callbacks = ["callbacks", "callbacks_a", "callbacks_b"].map((name) => part.fixed[name]).filter(Boolean);
    const varies = part.keys.some((key) => key.name.startsWith("callbacks"));
    return (
      !varies && callbacks.every((told) => told === "[]") && Number.isFinite(dln.rateOf(part, 0, part.columns[0] ?? {}))
    );
  }

  /** Return what is drawn of a condition in the middle, and around it. */
  function middles(part) {
    const found = [{ value: "mean", text: "mean" }];
    if (part.kinds.includes("q0.5")) found.push({ value: "median", text: "median" });
    if (part.kinds.includes("ratio")) found.push({ value: "ratio", text: "ratio to the baseline" });
    if (part.singleOf.length) found.push({ value: "single", text: "single runs" });
    return found;
  }

  function bands(part) {
    const found = [];
    if (part.kinds.includes("low")) found.push({ value: "interval", text: "95 % interval of the mean" });
    const outer = dln.outerQuantiles(part);
    if (outer)
      found.push({
        value: "quantiles",
        text: outer.map((kind) => `${dln.number(100 * kind.slice(1))} %`).join(" to ") + " of runs",
      });
    return found.length ? [{ value: "auto", text: "auto" }, ...found, { value: "none", text: "none" }] : [];
  }

  /**
   * Fill a section with the curves of a part.
   * @returns {{render: () => void, draw: Function, charts: () => object[]}}
   */
  dln.curvesView = function (host, part) {
    const keys = part.by.filter((key) => key.texts.length > 1);
    const controls = {
      metric: dln.choice("metric", "metric", () => dln.metrics(part)),
      x: dln.choice("x", "against", () => overs(part)),
      xscale: dln.choice("xscale", "x axis", () => scales("linear", "log")),
      yscale: dln.choice("yscale", "y axis", () => scales("auto", "linear", "log")),
      colour: dln.choice("colour", "colour by", () => [
        { value: "", text: keys.length ? "what differs" : "curve" },
        ...keys.map((key) => ({ value: key.name, text: key.name })),
        ...(keys.length ? [{ value: "*column", text: "curve" }] : []),
      ]),
      panels: dln.choice("panels", "panels by", () => [
        { value: "", text: "nothing" },
        ...keys.map((key) => ({ value: key.name, text: key.name })),
      ]),
      middle: dln.choice("middle", "draw", () => middles(part)),
      band: dln.choice("band", "band", () => bands(part)),
    };
    const theories = dln.tick("theory", "what theories say", true);
    theories.made.hidden = !part.columns.some((column) => column.theory);
    const filters = dln.filters(part);
    const panels = dln.element("div", { class: "panels" });
    const notes = dln.element("div", { class: "muted", role: "status" });
    const png = dln.element("button", { type: "button", text: "save pictures (PNG)" });
    const csv = dln.element("button", { type: "button", text: "save curves (CSV)" });
    const bar = dln.element(
      "div",
      { class: "controls" },
      ...Object.values(controls).map(({ made }) => made),
      theories.made,
      png,
      csv,
    );
    host.append(bar, filters.made, panels, notes);
    let charts = [];

    function scales(...values) {
      return values.map((value) => ({ value, text: value }));
    }

    function how() {
      return {
        x: controls.x.value(),
        middle: controls.middle.value() || "mean",
        band: controls.band.value() || "none",
        colour: controls.colour.value(),
        theories: theories.value(),
      };
    }

    /** Return what a chart is to show of some columns and conditions. */
    function specOf(title, columns, conditions) {
      const chosen = how();
      if (chosen.band === "auto") chosen.band = conditions.length <= MOST_BANDS ? "interval" : "none";
      const many = conditions.length * columns.length;
      const stride = Math.max(1, Math.ceil(many / MOST_CURVES));
      const some = conditions.filter((_, i) => i % stride === 0);
      const curves = dln.linesOf(part, columns, some, chosen);
      const yscale = controls.yscale.value();
      const log = yscale === "log" || (yscale === "auto" && isWide(curves));
      const x = controls.x.value();
      const name = columns.length === 1 ? columns[0].name : title;
      return {
        label: title,
        x: { label: x === "time" ? "time (lr × step)" : x, log: controls.xscale.value() === "log" },
        y: { label: chosen.middle === "ratio" ? `${name} / baseline` : name, log },
        curves,
        levels: chosen.middle === "ratio" ? [{ y: 1 }] : levels(columns, conditions),
        marks: x === "step" ? marks() : [],
        left: conditions.length - some.length,
      };
    }

    /** Whether values are positive and span a wide range. */
    function isWide(curves) {
      const [all, positive] = [false, true].map((log) =>
        dln.extent(
          curves.map((curve) => curve.y),
          log,
        ),
      );
      return Boolean(all && positive) && all[0] >= 0 && positive[1] / positive[0] > WIDE;
    }

    /** Return 2 / lr beside sharpness, where plain gradient descent is stable below it. */
    function levels(columns, conditions) {
      const plain =
        part.fixed["training.optimizer"] === "SGD" &&
        !Object.keys(part.fixed).some((key) => key.startsWith("training.optimizer_params"));
      const factors = part.fixed["training.lr_factors"];
      if (
        !columns.some((column) => /^(batch_)?sharpness$/.test(column.group)) ||
        !plain ||
        !hasRate(part) ||
        (factors && factors !== "null")
      )
        return [];
      const rates = [...new Set(conditions.map((condition) => dln.rateOf(part, condition, {})))].filter(
        (rate) => rate > 0,
      );
      if (rates.length > 6) return [];
      return rates.map((rate) => ({
        y: 2 / rate,
        label: `2 / lr${rates.length > 1 ? `, lr ${dln.number(rate)}` : ""}`,
        colour: dln.COLOURS.limit,
      }));
    }

    /** Return where something happened in a run. */
    function marks() {
      const ends = Object.entries(part.ends).map(([name, step]) => ({
        x: step,
        label: name.replace("_at", "").replace(/_([ab])$/, " $1"),
      }));
      return [...ends, ...part.acts.map(([step, name]) => ({ x: step, label: name }))];
    }

    function titled() {
      const metric = controls.metric.value();
      const conditions = dln.chosenConditions(part);
      const key = keys.find((one) => one.name === controls.panels.value());
      const made = [];
      for (const { title, columns } of dln.panelsOf(part, metric)) {
        const places = key ? key.texts.map((_, place) => place) : [null];
        for (const place of places) {
          const own =
            place === null ? conditions : conditions.filter((condition) => part.placeOf(condition, key) === place);
          if (own.length)
            made.push({
              title: place === null ? title : `${title}, ${key.short} ${key.texts[place]}`,
              columns,
              conditions: own,
            });
        }
      }
      return { made, conditions };
    }

    function render() {
      for (const control of [...Object.values(controls), theories, filters]) control.sync();
      controls.band.made.hidden = bands(part).length < 2 || controls.middle.value() === "single";
      const { made, conditions } = titled();
      const shown = made.slice(0, MOST_PANELS);
      while (charts.length > shown.length) {
        const { chart, holder } = charts.pop();
        chart.destroy();
        holder.remove();
      }
      while (charts.length < shown.length) {
        const heading = dln.element("h3");
        const inner = dln.element("div");
        const holder = dln.element("div", {}, heading, inner);
        panels.append(holder);
        charts.push({ chart: dln.chart(inner, { height: shown.length > 1 ? 230 : 380 }), heading, holder });
      }
      let left = 0;
      shown.forEach(({ title, columns, conditions: own }, i) => {
        const spec = specOf(title, columns, own);
        left += spec.left;
        charts[i].heading.textContent = title;
        charts[i].chart.draw(spec);
      });
      tellBelow(conditions, made.length - shown.length, left);
    }

    /** Say what the curves are of, and what is not shown. */
    function tellBelow(conditions, panelsLeft, curvesLeft) {
      const said = [];
      const wanted = new Set(conditions);
      let [runs, lost] = [0, 0];
      part.row.condition.forEach((condition, row) => {
        if (!wanted.has(condition)) return;
        runs += part.row.runs[row];
        lost += part.row.diverged[row];
      });
      const counted = dln.counted;
      if (part.kind === "sweep")
        said.push(
          `${counted(runs, "run")} in ${counted(conditions.length, "condition")}${part.over.length ? `, averaged over ${part.over.join(" and ")}` : ""}.`,
        );
      if (lost)
        said.push(
          `${lost} of ${counted(runs, "run")} diverged (×); ${part.kinds.includes("low") ? "means, medians and bands are of those that had not" : "curves end there"}. Axes fit the others; minus zooms out.`,
        );
      if (controls.middle.value() === "single")
        said.push(`Single runs in this file: ${part.singleOf.length}, the first of each condition.`);
      for (const theory of new Set(part.columns.map((column) => column.theory).filter(Boolean)))
        said.push(conditionsOf(theory, wanted));
      if (part.records > 0 && part.curves.shown < part.curves.records)
        said.push(`Of ${part.curves.records} records ${part.curves.shown} are shown.`);
      if (!conditions.length) said.push("No run is chosen.");
      if (panelsLeft) said.push(`${counted(panelsLeft, "panel")} more: choose fewer runs, or another key.`);
      if (curvesLeft)
        said.push(`Evenly chosen: ${counted(curvesLeft, "condition")} more are not drawn; choose fewer runs.`);
      notes.replaceChildren(...said.filter(Boolean).map((text) => dln.element("p", { text })));
    }

    /** Say how good a theory is for the runs that are shown, by its conditions. */
    function conditionsOf(theory, wanted) {
      const end = `_${theory}`;
      const told = part.rows.events
        .filter((name) => name.endsWith(end))
        .map((name) => {
          const values = Array.from(part.value(name)).filter(
            (value, row) => wanted.has(part.row.condition[row]) && Number.isFinite(value),
          );
          if (!values.length) return null;
          const [low, high] = dln.extent([values], false);
          const range = low === high ? dln.number(low, 3) : `${dln.number(low, 3)} to ${dln.number(high, 3)}`;
          return `${name.slice(0, -end.length).replaceAll("_", " ")} ${range}`;
        });
      const known = told.filter(Boolean);
      return `Dashed: theory ${theory}${known.length ? ` (its conditions: ${known.join(", ")})` : ""}.`;
    }

    png.addEventListener("click", async () => {
      for (const { chart } of charts) dln.download(`${dln.fileName(chart.spec().label)}.png`, await chart.png());
    });
    csv.addEventListener("click", () => {
      const lines = [["panel", "curve", charts[0]?.chart.spec().x.label ?? "x", "value", "low", "high"]];
      for (const { chart } of charts) {
        const spec = chart.spec();
        for (const curve of spec.curves) {
          for (let i = 0; i < curve.x.length; i++) {
            if (!Number.isFinite(curve.x[i])) continue;
            const band = curve.low ? [curve.low[i], curve.high[i]] : ["", ""];
            lines.push([spec.label, curve.label, curve.x[i], ...[curve.y[i], ...band].map(dln.plainNumber)]);
          }
        }
      }
      dln.download(`${dln.fileName(part.name)} curves.csv`, dln.csv(lines), "text/csv");
    });

    return { render, specOf, charts: () => charts.map(({ chart }) => chart) };
  };
})(window.dln);
