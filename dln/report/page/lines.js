// From a part and the reader's choices to the curves of a chart: which, over what, in which colour.
"use strict";

(function (dln) {
  const MOST_ENTRIES = 8; // of a ramp in the legend
  const FEW = 5; // values of a key that have colours of their own; more are on a ramp
  const MOST_CROSSES = 300;
  const DASHES = [
    [7, 4],
    [2, 3],
    [8, 3, 2, 3],
    [8, 3, 2, 3, 2, 3],
  ]; // what theories say, each its own

  /** Return the numbers of the conditions that the reader has chosen. */
  dln.chosenConditions = function (part, more = () => true) {
    const allowed = part.by.map((key) => [key, dln.chosenPlaces(key)]);
    const found = [];
    for (let condition = 0; condition < part.conditions; condition++) {
      if (allowed.every(([key, places]) => places[part.placeOf(condition, key)]) && more(condition))
        found.push(condition);
    }
    return found;
  };

  /** Return what is to be drawn together: groups of columns, each with what theories say of them. */
  dln.metrics = function (part) {
    const own = part.columns.filter((column) => !isTold(part, column));
    const groups = new Map();
    for (const column of own) groups.set(column.group, [...(groups.get(column.group) || []), column]);
    const offered = [...groups]
      .filter(([, columns]) => columns.length > 1)
      .map(([group]) => ({ value: `*${group}`, text: `${group} (all)` }));
    const single = own.map((column) => ({ value: column.name, text: column.name }));
    const every = groups.size > 1 ? [{ value: "*", text: "everything, a panel each" }] : [];
    const whole = part.conditions === 1 && part.kind !== "sweep";
    if (whole) return [...every, ...offered, ...single];
    return own[0]?.entry ? [...offered, ...single, ...every] : [...single, ...offered, ...every];
  };

  /** Whether a column is what a theory says of another. */
  function isTold(part, column) {
    return Boolean(column.theory) && (column.of !== column.name || /_std(\[|\.|$)/.test(column.of));
  }

  /** Return the panels of a metric that was chosen: a title and columns, without those of theories. */
  dln.panelsOf = function (part, metric) {
    const own = part.columns.filter((column) => !isTold(part, column));
    const grouped = (group) => ({ title: group, columns: own.filter((column) => column.group === group) });
    if (metric === "*") return [...new Set(own.map((column) => column.group))].map(grouped);
    if (metric.startsWith("*")) return [grouped(metric.slice(1))];
    return [{ title: metric, columns: own.filter((column) => column.name === metric) }];
  };

  /** Return f(condition) -> {colour, text, legend} by a key; of many values only some are in the legend. */
  dln.colouring = function (part, key) {
    const { values, texts } = key;
    const numbers = values.every((value) => typeof value === "number") && !/seed$/.test(key.name);
    const ramp = numbers && values.length > FEW;
    const positive = ramp && values[0] > 0 && values[values.length - 1] / values[0] >= 8;
    const to = positive ? Math.log : (value) => value;
    const [low, high] = [to(values[0]), to(values[values.length - 1])];
    return (condition) => {
      const place = part.placeOf(condition, key);
      const text = `${key.short} ${texts[place]}`;
      if (ramp) {
        const stride = Math.ceil((values.length - 1) / (MOST_ENTRIES - 1));
        const legend = place % stride === 0 || place === values.length - 1;
        return { colour: dln.ramp((to(values[place]) - low) / (high - low)), text, legend };
      }
      return {
        colour: values[place] === null && texts[place] === "full" ? "--ink" : dln.PALETTE[place % dln.PALETTE.length],
        text,
      };
    };
  };

  /** Return the colour of a column where colours are of columns; of lanes, colours are of what both have. */
  function ownColour(column, columns) {
    if (column.theory) return "--ink";
    if (column.group === "loss" || (column.lane && !column.entry)) {
      if (column.lane) return dln.LANES[`_${column.lane}`];
      return column.name === "test_loss" ? dln.COLOURS.test : dln.COLOURS.train;
    }
    const entries = [...new Set(columns.map((one) => one.entry))];
    const [place, count] = [entries.indexOf(column.entry), entries.length];
    return count > dln.PALETTE.length ? dln.ramp(place / (count - 1)) : dln.PALETTE[place % dln.PALETTE.length];
  }

  /** Return the dashes of a column: theories have their own, and of two lanes what colours do not tell apart. */
  function dashOf(part, column, columns, coloured) {
    const theories = [...new Set(part.columns.map((one) => one.theory).filter(Boolean))];
    if (column.theory) return DASHES[theories.indexOf(column.theory) % DASHES.length];
    if (!column.lane || new Set(columns.map((one) => one.lane)).size < 2) return undefined;
    if (column.group === "loss" && !coloured) return column.name.startsWith("test") ? [6, 3] : undefined;
    return column.lane === "b" && (coloured || column.entry) ? [6, 3] : undefined;
  }

  /** Return how a place in a condition is told by the keys that differ among those that are drawn. */
  dln.conditionText = function (part, condition, keys = part.by) {
    return keys.map((key) => `${key.short} ${key.texts[part.placeOf(condition, key)]}`).join(", ");
  };

  /** Return where a condition's records stand on the axis that was chosen. */
  function along(part, condition, column, x, kind) {
    const steps = part.stepsOf(condition);
    if (x === "step") return steps;
    if (x === "time") {
      const recorded = part.columnNumber("time");
      if (recorded >= 0) return part.curve(recorded, condition, "mean");
      const rate = dln.rateOf(part, condition, column);
      return steps.map((step) => step * rate);
    }
    const number = part.columnNumber(x);
    return part.curve(number, condition, kind) || part.curve(number, condition, "mean");
  }

  /** Return the learning rate of a column's lane in a condition; NaN if there is none, or it changes. */
  dln.rateOf = function (part, condition, column) {
    const section = part.comparison ? `training_${column.lane || "b"}` : "training";
    return part.setting(condition, `${section}.lr`) ?? NaN;
  };

  /**
   * Return the curves of a panel.
   * @param {object} part
   * @param {object[]} columns
   * @param {number[]} conditions
   * @param {{x: string, middle: string, band: string, colour: string, theories: boolean}} how
   */
  dln.linesOf = function (part, columns, conditions, how) {
    const differing = part.by.filter(
      (key) => new Set(conditions.map((condition) => part.placeOf(condition, key))).size > 1,
    );
    const [most] = [...differing].sort((a, b) => b.texts.length - a.texts.length); // as dln plot colours them
    const colourKey = how.colour === "*column" ? null : (part.by.find((key) => key.name === how.colour) ?? most);
    const colours = colourKey && conditions.length > 1 ? dln.colouring(part, colourKey) : null;
    const lost = new Set(part.row.condition.filter((condition, row) => part.row.diverged[row] > 0));
    const curves = [];
    const add = (column) => {
      const number = part.columnNumber(column.name);
      for (const condition of conditions) {
        const told = colours && colours(condition);
        const name = part.columns.length > 1 ? nameOf(column, columns) : "";
        const text = [dln.conditionText(part, condition, differing), name].filter(Boolean).join(", ");
        const curve = {
          label: text || column.name,
          key: told
            ? [told.text, looksAlike(column, columns)].filter(Boolean).join(", ")
            : column.theory || name || column.name,
          colour: told ? told.colour : ownColour(column, columns),
          dash: dashOf(part, column, columns, Boolean(told)),
          plane: how.x !== "step" && how.x !== "time",
          steps: how.x === "step" ? null : part.stepsOf(condition),
          condition,
          loose: lost.has(condition),
          legend: told?.legend,
          width: column.theory ? 1.3 : 1.7,
        };
        curves.push(...drawn(part, number, condition, column, how, curve));
      }
    };
    for (const column of columns) {
      add(column);
      if (!how.theories) continue;
      part.columns.filter((other) => other.theory && other.of === column.name && other !== column).forEach(add);
    }
    const shown = new Set();
    for (const curve of curves) {
      curve.legend = curve.legend !== false && !shown.has(curve.key);
      shown.add(curve.key);
    }
    if (how.x === "step" || how.x === "time") crossed(part, curves, conditions, how.x);
    return curves;
  };

  /** Return what the legend says of a column beside its colour: what its dashes tell. */
  function looksAlike(column, columns) {
    return column.theory || (new Set(columns.map((one) => one.lane)).size > 1 ? column.lane : "");
  }

  /** Return what tells a column from the others of its panel. */
  function nameOf(column, columns) {
    const rest = column.group === "loss" ? column.of.replace(/_loss.*/, "") : column.entry || "";
    const parts = [column.lane, columns.length > 1 ? rest : "", column.theory].filter(Boolean);
    return parts.join(" ");
  }

  /** Return between what a band lies; null if there is none. */
  function endsOf(part, how, kind) {
    if (how.band === "none") return null;
    if (kind === "ratio") return ["ratio low", "ratio high"];
    if (how.band === "quantiles") return dln.outerQuantiles(part);
    return kind === "mean" ? ["low", "high"] : null;
  }

  /** Return the curves of one condition: the middle with its band, or those of its runs. */
  function drawn(part, number, condition, column, how, curve) {
    const median = how.middle === "median" && part.kinds.includes("q0.5");
    const kind = how.middle === "ratio" ? "ratio" : median ? "q0.5" : "mean";
    const made = [];
    if (how.middle === "single" && part.kinds.includes("low")) {
      const values = part.single(number);
      part.singleOf.forEach((of, run) => {
        if (of !== condition) return;
        const y = values.subarray(run * part.records, (run + 1) * part.records);
        const number = part.columnNumber(how.x);
        const x =
          number >= 0
            ? part.single(number).subarray(run * part.records, (run + 1) * part.records)
            : along(part, condition, column, how.x, kind === "ratio" ? "mean" : kind);
        made.push({ ...curve, x, y, alpha: 0.45, width: 1, run });
      });
      return made;
    }
    const x = along(part, condition, column, how.x, kind === "ratio" ? "mean" : kind);
    const y = part.curve(number, condition, kind);
    const ends = endsOf(part, how, kind);
    if (kind === "ratio" && !y?.some(Number.isFinite)) return []; // a baseline itself, or what a theory says
    const spread = column.spread ? part.columnNumber(column.spread) : -1;
    if (spread >= 0) {
      const width = part.curve(spread, condition, "mean");
      made.push({
        ...curve,
        x,
        y,
        low: y.map((value, i) => value - width[i]),
        high: y.map((value, i) => value + width[i]),
      });
    } else if (ends && !curve.plane && part.kinds.includes(ends[0])) {
      made.push({
        ...curve,
        x,
        y,
        low: part.curve(number, condition, ends[0]),
        high: part.curve(number, condition, ends[1]),
      });
    } else {
      made.push({ ...curve, x, y });
    }
    return made;
  }

  /** Return the outermost quantiles that are kept; null if there is only a median. */
  dln.outerQuantiles = function (part) {
    const levels = part.kinds.filter((kind) => kind.startsWith("q"));
    return levels.length > 1 ? [levels[0], levels[levels.length - 1]] : null;
  };

  /** Put crosses where runs diverged. */
  function crossed(part, curves, conditions, x) {
    const events = part.rows.values.filter((name) => name.startsWith("diverged_at"));
    const first = new Map(curves.map((curve) => [curve.condition, curve]).reverse());
    const wanted = new Set(conditions);
    let left = MOST_CROSSES;
    for (const name of events) {
      const steps = part.value(name);
      for (let row = 0; row < steps.length && left; row++) {
        const curve = first.get(part.row.condition[row]);
        if (!Number.isFinite(steps[row]) || !wanted.has(part.row.condition[row]) || !curve) continue;
        const at = x === "step" ? steps[row] : steps[row] * dln.rateOf(part, curve.condition, { lane: name.slice(12) });
        if (Number.isFinite(at)) (curve.crosses ??= []).push(at);
        left--;
      }
    }
  }
})(window.dln);
