// How curves, bands, levels and marks are drawn on a canvas, and which point is nearest to a place.
"use strict";

/**
 * A curve: `y` over `x`, both of one length; what is not finite, or not positive on a logarithmic axis, is a gap.
 * @typedef {object} Curve
 * @property {ArrayLike<number>} x
 * @property {ArrayLike<number>} y
 * @property {ArrayLike<number>} [low] Lower end of a band.
 * @property {ArrayLike<number>} [high] Upper end of a band.
 * @property {string} [label] What the read-out calls it, and the legend, if it has no `key`.
 * @property {string} [key] What the legend calls it, and those that look alike.
 * @property {string} [colour] A CSS colour, or the name of a colour of theme.css ("--ink").
 * @property {number[]} [dash] Lengths of strokes and gaps: what theories say is dashed.
 * @property {number} [width]
 * @property {number} [alpha] From 0 to 1: curves of single runs are faint.
 * @property {number[]} [crosses] Where on the x axis crosses stand at the upper edge: runs that diverged.
 * @property {boolean} [plane] Whether the nearest point is the nearest in both directions: x does not grow along it.
 * @property {ArrayLike<number>} [steps] The steps of its points, which the read-out then tells.
 * @property {boolean} [loose] Whether it may leave the picture: axes are chosen for the others, if there are any.
 * @property {boolean} [legend] False: it is not in the legend.
 */

(function (dln) {
  const HUGE = Number.MAX_VALUE / 4; // so that differences are finite

  /** Return f(value) -> place in pixels along an axis, NaN where the axis does not show the value. */
  function along(scale, start, length) {
    const { min, max, log } = scale;
    if (log) {
      const [first, last] = [Math.log(min), Math.log(max)];
      return (value) => (value > 0 ? start + ((Math.log(value) - first) / (last - first)) * length : NaN);
    }
    return (value) => start + ((value - min) / (max - min)) * length;
  }

  /**
   * Return where values are on a canvas, in its pixels.
   * @param {{left: number, top: number, width: number, height: number}} box
   * @param {{min: number, max: number, log: boolean}} x
   * @param {{min: number, max: number, log: boolean}} y
   */
  dln.placed = function (box, x, y) {
    return { x: along(x, box.left, box.width), y: along(y, box.top + box.height, -box.height), box };
  };

  /** Draw curves, levels and marks; `ratio` is the number of canvas pixels in a CSS pixel. */
  dln.drawCurves = function (context, place, spec, colour, ratio) {
    const { box } = place;
    context.save();
    context.beginPath();
    context.rect(box.left, box.top, box.width, box.height);
    context.clip();
    context.lineJoin = "round";
    for (const curve of spec.curves) if (curve.low) band(context, place, curve, colour);
    for (const level of spec.levels || []) straight(context, place, level, colour, ratio, false);
    for (const mark of spec.marks || []) straight(context, place, mark, colour, ratio, true);
    for (const curve of spec.curves) line(context, place, curve, colour, ratio);
    for (const curve of spec.curves)
      for (const at of curve.crosses || []) cross(context, place, at, colour(curve.colour), ratio);
    context.restore();
  };

  function line(context, place, curve, colour, ratio) {
    context.globalAlpha = curve.alpha ?? 1;
    context.strokeStyle = colour(curve.colour || "--ink");
    context.lineWidth = (curve.width ?? 1.6) * ratio;
    context.setLineDash((curve.dash || []).map((length) => length * ratio));
    context.beginPath();
    let down = false;
    let dots = null;
    for (let i = 0; i < curve.x.length; i++) {
      const x = place.x(curve.x[i]);
      const y = place.y(curve.y[i]);
      const seen = Number.isFinite(x) && Number.isFinite(y);
      if (!seen) {
        if (dots) single(context, dots, ratio);
        dots = null;
      } else if (down) {
        context.lineTo(x, y);
        dots = null;
      } else {
        context.moveTo(x, y);
        dots = [x, y]; // a value between two gaps would not be seen
      }
      down = seen;
    }
    if (dots) single(context, dots, ratio);
    context.stroke();
    context.globalAlpha = 1;
    context.setLineDash([]);
  }

  function single(context, [x, y], ratio) {
    context.moveTo(x - 1.5 * ratio, y);
    context.lineTo(x + 1.5 * ratio, y);
  }

  function band(context, place, curve, colour) {
    context.globalAlpha = 0.22;
    context.fillStyle = colour(curve.colour || "--ink");
    let from = 0;
    while (from < curve.x.length) {
      const ends = [];
      let i = from;
      for (; i < curve.x.length; i++) {
        const x = place.x(curve.x[i]);
        const high = place.y(curve.high[i]);
        let low = place.y(curve.low[i]);
        if (Number.isNaN(low) && curve.low[i] <= 0) low = place.y(curve.y[i]); // of a band that reaches zero the upper half is drawn
        if (!Number.isFinite(x) || !Number.isFinite(high) || !Number.isFinite(low)) break;
        ends.push([x, low, high]);
      }
      if (ends.length > 1) {
        context.beginPath();
        for (const [x, , high] of ends) context.lineTo(x, high);
        for (const [x, low] of ends.reverse()) context.lineTo(x, low);
        context.fill();
      }
      from = i + 1;
    }
    context.globalAlpha = 1;
  }

  /** Draw a level, or an upright mark, with its label. */
  function straight(context, place, told, colour, ratio, upright) {
    const { box } = place;
    const at = upright ? place.x(told.x) : place.y(told.y);
    if (!Number.isFinite(at)) return;
    context.strokeStyle = colour(told.colour || "--muted");
    context.fillStyle = colour("--muted");
    context.lineWidth = ratio;
    context.setLineDash([2 * ratio, 3 * ratio]);
    context.beginPath();
    if (upright) {
      context.moveTo(at, box.top);
      context.lineTo(at, box.top + box.height);
    } else {
      context.moveTo(box.left, at);
      context.lineTo(box.left + box.width, at);
    }
    context.stroke();
    context.setLineDash([]);
    if (!told.label) return;
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    context.textBaseline = "bottom";
    const width = context.measureText(told.label).width + 4 * ratio;
    if (upright) {
      const right = at + width > box.left + box.width;
      context.textAlign = right ? "right" : "left";
      context.fillText(told.label, at + (right ? -3 : 3) * ratio, box.top + box.height - 3 * ratio);
    } else {
      context.textAlign = "right";
      context.fillText(told.label, box.left + box.width - 3 * ratio, at - 2 * ratio);
    }
  }

  function cross(context, place, at, colour, ratio) {
    const x = place.x(at);
    const y = place.box.top + 5 * ratio;
    context.strokeStyle = colour;
    context.lineWidth = 1.5 * ratio;
    dln.strokeCross(context, x, y, 3.5 * ratio);
  }

  /** Stroke a cross around a place, its arms so long to each side. */
  dln.strokeCross = function (context, x, y, arm) {
    context.beginPath();
    context.moveTo(x - arm, y - arm);
    context.lineTo(x + arm, y + arm);
    context.moveTo(x - arm, y + arm);
    context.lineTo(x + arm, y - arm);
    context.stroke();
  };

  /**
   * Return the smallest and largest value that an axis can show, of all curves; null if there is none.
   * @param {Iterable<ArrayLike<number>>} columns
   */
  dln.extent = function (columns, log) {
    let [min, max] = [Infinity, -Infinity];
    for (const values of columns) {
      for (let i = 0; i < values.length; i++) {
        const value = values[i];
        if (!Number.isFinite(value) || value === null || (log && value <= 0)) continue;
        if (value < min) min = value;
        if (value > max) max = value;
      }
    }
    return min <= max ? [min, max] : null;
  };

  /** Return the limits of an axis around an extent: a margin of a part of it on both sides. */
  dln.limits = function (extent, log, margin) {
    let [min, max] = extent || [log ? 0.1 : 0, 1];
    if (log) {
      const pad = max > min ? (max / min) ** margin : 2;
      return { min: Math.max(min / pad, Number.MIN_VALUE * 2 ** 52), max: Math.min(max * pad, Number.MAX_VALUE), log };
    }
    const pad = max > min ? (max - min) * margin : Math.abs(max) * 0.1 || 1;
    return { min: Math.max(min - pad, -HUGE), max: Math.min(max + pad, HUGE), log };
  };

  /**
   * Return the points that are nearest to a place: of each curve the one nearest along x, the nearest curves first.
   * @returns {{curve: number, index: number, distance: number}[]}
   */
  dln.nearest = function (place, curves, x, y) {
    const found = [];
    curves.forEach((curve, number) => {
      let best = null;
      for (let i = 0; i < curve.x.length; i++) {
        const [px, py] = [place.x(curve.x[i]), place.y(curve.y[i])];
        if (!Number.isFinite(px) || !Number.isFinite(py)) continue;
        const distance = curve.plane ? Math.hypot(px - x, py - y) : Math.abs(px - x);
        if (!best || distance < best.across)
          best = { curve: number, index: i, across: distance, distance: Math.hypot(px - x, py - y) };
      }
      if (best) found.push(best);
    });
    return found.sort((a, b) => a.distance - b.distance);
  };
})(window.dln);
