// From a part and the reader's choices to the curves of a chart: which, over what, in which colour.
"use strict";

(function (dln) {
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
    return whole ? [...every, ...offered, ...single] : [...single, ...offered, ...every];
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

  /** Return f(condition) -> {colour, text} by a key. */
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
      if (ramp) return { colour: dln.ramp((to(values[place]) - low) / (high - low)), text };
      return {
        colour: values[place] === null && texts[place] === "full" ? "--ink" : dln.PALETTE[place % dln.PALETTE.length],
        text,
      };
    };
  };

  /** Return the colour of a column where colours are of columns. */
  function ownColour(part, column, place, count) {
    if (column.theory) return "--ink";
    if (column.group === "loss" && !column.lane)
      return column.name === "test_loss" ? dln.COLOURS.test : dln.COLOURS.train;
    if (column.lane && count <= 4) return dln.LANES[`_${column.lane}`];
    return count > dln.PALETTE.length ? dln.ramp(place / (count - 1)) : dln.PALETTE[place % dln.PALETTE.length];
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
    const colourKey =
      how.colour === "*column" ? null : (part.by.find((key) => key.name === how.colour) ?? differing[0]);
    const colours = colourKey && conditions.length > 1 ? dln.colouring(part, colourKey) : null;
    const theories = [...new Set(part.columns.map((column) => column.theory).filter(Boolean))];
    const curves = [];
    const add = (column, place, dash) => {
      const number = part.columnNumber(column.name);
      for (const condition of conditions) {
        const told = colours && colours(condition);
        const name = part.columns.length > 1 ? nameOf(column, columns) : "";
        const text = [dln.conditionText(part, condition, differing), name].filter(Boolean).join(", ");
        const curve = {
          label: text || column.name,
          key: told
            ? [told.text, columns.length > 1 || column.theory ? name : ""].filter(Boolean).join(", ")
            : column.theory || name || column.name,
          colour: told ? told.colour : ownColour(part, column, place, columns.length),
          dash: dash || (told && column.lane === "b" ? [6, 3] : undefined),
          plane: how.x !== "step" && how.x !== "time",
          condition,
          width: column.theory ? 1.3 : 1.7,
        };
        curves.push(...drawn(part, number, condition, column, how, curve));
      }
    };
    columns.forEach((column, place) => {
      add(column, place, column.theory ? DASHES[theories.indexOf(column.theory) % DASHES.length] : null);
      if (!how.theories) return;
      for (const other of part.columns) {
        if (other.theory && other.of === column.name && other.name !== column.name) {
          add(other, place, DASHES[theories.indexOf(other.theory) % DASHES.length]);
        }
      }
    });
    const shown = new Set();
    for (const curve of curves) {
      curve.legend = curve.legend !== false && !shown.has(curve.key);
      shown.add(curve.key);
    }
    if (how.x === "step" || how.x === "time") crossed(part, curves, conditions, how.x);
    return curves;
  };

  /** Return what tells a column from the others of its panel. */
  function nameOf(column, columns) {
    const rest = column.group === "loss" ? column.of.replace(/_loss.*/, "") : column.entry || "";
    const parts = [column.lane, columns.length > 1 ? rest : "", column.theory].filter(Boolean);
    return parts.join(" ");
  }

  /** Return the curves of one condition: the middle with its band, or those of its runs. */
  function drawn(part, number, condition, column, how, curve) {
    const median = how.middle === "median" && part.kinds.includes("q0.5");
    const kind = median ? "q0.5" : "mean";
    const made = [];
    if (how.middle === "single" && part.kinds.length > 1) {
      const values = part.single(number);
      part.singleOf.forEach((of, run) => {
        if (of !== condition) return;
        const y = values.subarray(run * part.records, (run + 1) * part.records);
        const number = part.columnNumber(how.x);
        const x =
          number >= 0
            ? part.single(number).subarray(run * part.records, (run + 1) * part.records)
            : along(part, condition, column, how.x, kind);
        made.push({ ...curve, x, y, alpha: 0.45, width: 1, run });
      });
      return made;
    }
    const x = along(part, condition, column, how.x, kind);
    const y = part.curve(number, condition, kind);
    const ends =
      how.band === "interval" && !median ? ["low", "high"] : how.band === "quantiles" ? dln.outerQuantiles(part) : null;
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
