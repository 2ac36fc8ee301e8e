// What the panels show: which curves are in which one, and how they look.
"use strict";

(function (dln) {
  const DASHES = [6, 4]; // what theories say
  const DOTS = [2, 2]; // the second of two things in one colour

  /**
   * Return what the panels show, as charts take it, by their names; one that has nothing to show is left out.
   * @param {object} state See state.js.
   * @param {{begin: object, curves: object, theory: object, sharpness: object}} answer Frames, by kind: {told, arrays}.
   */
  dln.explorer.specs = function (state, answer) {
    const lanes = answer.begin && "_a" in answer.begin.told.lr ? ["_a", "_b"] : [""];
    const log = state.asks.spacing === "log";
    const theory = answer.theory?.told.theory;
    const { curves, sharpness } = answer;
    const specs = {};

    function spec(name, title, unit, curves, { logarithmic = false, levels = [] } = {}) {
      if (!curves.length) return;
      const [x, y] = [
        { label: "step", log },
        { label: unit, log: logarithmic },
      ];
      specs[name] = { label: title, x, y, curves, levels };
    }

    /** The curves of a column of a frame: its band, and members one by one if they are asked for. */
    function drawn(frame, column, label, colour, more = {}) {
      const rows = frame?.arrays[column];
      if (!rows || !rows[1].some(Number.isFinite)) return []; // such as modes that the teacher has not
      const steps = Float64Array.from(frame.told.steps);
      const from = log ? steps.findIndex((step) => step > 0) : 0;
      const [low, y, high] = rows.map((row) => row.subarray(from));
      const own = { x: steps.subarray(from), colour, ...more };
      const members = state.view.curves ? frame.arrays[`${column}|members`] || [] : [];
      return [
        ...members.map((row) => ({ ...own, y: row.subarray(from), width: 1, alpha: 0.3, legend: false, label: "" })),
        { ...own, y, low, high, label },
      ];
    }

    /** The curve of what the theory says of a column. */
    function predicted(lane, name, entry = "", legend = true) {
      if (!theory) return [];
      const found = drawn(answer.theory, `${name}_${theory}${lane}${entry}`, named(lane, theory), "--ink", { legend });
      return found.map(({ low, high, ...curve }) => ({ ...curve, dash: DASHES, width: 1.2 }));
    }

    function losses() {
      return lanes.flatMap((lane) => [
        ...drawn(curves, `train_loss${lane}`, named(lane, "training"), laneColour(lane, "train")),
        ...drawn(curves, `test_loss${lane}`, named(lane, "test"), laneColour(lane, "test"), lane ? thin : {}),
        ...predicted(lane, "train_loss"),
      ]);
    }

    /** Curves of a column of several numbers, a shade each; those of B are dotted. */
    function several(column, word) {
      const count = columnsOf(curves, column + lanes[0]).length;
      return lanes.flatMap((lane) =>
        Array.from({ length: count }, (_, i) => [
          ...drawn(curves, `${column}${lane}[${i + 1}]`, named(lane, `${word} ${i + 1}`), shade(i, count), {
            dash: lane === "_b" ? DOTS : [],
            legend: lane !== "_b",
          }),
          ...predicted(lane, column, `[${i + 1}]`, i === 0 && lane !== "_b"),
        ]).flat(),
      );
    }

    function edges() {
      return lanes.flatMap((lane) => {
        const found = drawn(sharpness, `sharpness${lane}`, named(lane, "sharpness"), laneColour(lane, "train"));
        if (!found.length) return [];
        const { x } = found[found.length - 1];
        const y = new Float64Array(x.length).fill(2 / answer.begin.told.lr[lane]);
        return [...found, { x, y, colour: laneColour(lane, "limit"), dash: DOTS, label: named(lane, "2 / lr") }];
      });
    }

    function further(metric) {
      return lanes.flatMap((lane) => {
        const own = columnsOf(curves, metric + lane);
        return own.flatMap((key, i) => {
          const colour = lane || own.length === 1 ? laneColour(lane, "train") : shade(i, own.length);
          const label = own.length > 1 ? key.slice(metric.length + lane.length) : metric;
          return drawn(curves, key, named(lane, label), colour);
        });
      });
    }

    const { logarithmic } = state.view;
    const dotted = lanes.length > 1 ? " (B dotted)" : "";
    const levels = teacher(answer.begin?.told.teacher || []);
    spec("losses", "Losses", "mean squared error", losses(), { logarithmic });
    spec("modes", `Mode strengths${dotted}`, "strength", several("mode_strengths", "mode"), { levels });
    spec("values", `Singular values of the map${dotted}`, "value", several("singular_values", "value"), { levels });
    spec("sharpness", "Sharpness, and 2 / lr", "largest eigenvalue", edges(), { logarithmic });
    spec("distance", "Distance of the two settings", "distance", [
      ...drawn(curves, "end_to_end_distance", "of the maps", dln.COLOURS.train),
      ...drawn(curves, "param_distance", "of the weights", dln.COLOURS.test),
    ]);
    if (state.asks.further !== "none") {
      const found = further(state.asks.further);
      const name = state.asks.further.replaceAll("_", " ");
      spec("further", name, name, found, { logarithmic: logarithmic && wide(found) });
    }
    return specs;
  };

  const thin = { dash: DOTS, width: 1 };

  function named(lane, text) {
    return lane ? `${text}, ${lane.slice(1).toUpperCase()}` : text;
  }

  /** Return a lane's colour; of the only lane there is, that of what is drawn. */
  function laneColour(lane, what) {
    return lane ? dln.LANES[lane] : dln.COLOURS[what];
  }

  /** Return the names of the columns of a metric, in their order. */
  function columnsOf(frame, metric) {
    const names = Object.keys(frame?.arrays || {}).filter((name) => !name.includes("|"));
    return names.filter((name) => name === metric || name.startsWith(`${metric}[`));
  }

  function teacher(values) {
    const last = values.length - 1;
    return values.map((y, i) => ({ y, label: i < last ? "" : "teacher", colour: dln.COLOURS.teacher }));
  }

  /** Return the colour of one of so many modes; on dark paper the darkest ones are left out. */
  function shade(i, count) {
    const lowest = dark() ? 0.35 : 0;
    return dln.ramp(lowest + (count > 1 ? (1 - lowest) * (i / (count - 1)) : 0));
  }

  function dark() {
    const { theme } = document.documentElement.dataset;
    return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  /** Whether a logarithmic axis fits curves: all are positive, and the largest value is a hundred times the smallest. */
  function wide(curves) {
    const values = curves.flatMap((curve) => Array.from(curve.y)).filter(Number.isFinite);
    return Math.min(...values) > 0 && Math.max(...values) > 100 * Math.min(...values);
  }
})(window.dln);
