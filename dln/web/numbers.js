// Numbers as people read them, ticks of axes, and the data that a page carries.
"use strict";

/** Everything that the scripts of a page share. */
window.dln = window.dln || {};

(function (dln) {
  const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

  /** Return a power of ten as text: power(-4) is "10⁻⁴". */
  function power(exponent) {
    return "10" + [...String(exponent)].map((digit) => RAISED[digit]).join("");
  }

  /**
   * Return a number as text with some significant digits, without zeros at the end: 0.000123 is "1.23·10⁻⁴".
   * @param {number} value
   * @param {number} digits
   */
  dln.number = function (value, digits = 4) {
    if (value === null || value === undefined || Number.isNaN(value)) return "-";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (Number.isInteger(value) && size < 10 ** (digits + 3)) return String(value);
    let [mantissa, exponent] = size.toExponential(digits - 1).split("e");
    exponent = Number(exponent);
    const sign = value < 0 ? "-" : "";
    if (exponent >= -3 && exponent < 6) {
      const decimals = Math.max(digits - 1 - exponent, 0);
      const text = size.toFixed(decimals);
      return sign + (decimals ? text.replace(/\.?0+$/, "") : text);
    }
    mantissa = mantissa.replace(/\.?0+$/, "");
    return sign + (mantissa === "1" ? power(exponent) : `${mantissa}·${power(exponent)}`);
  };

  /** Return about `count` round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten. */
  dln.linearTicks = function (low, high, count) {
    if (!(high > low)) return [low];
    const raw = (high - low) / Math.max(count, 1);
    const base = 10 ** Math.floor(Math.log10(raw));
    const step = base * [1, 2, 5, 10].find((factor) => factor * base >= raw * 0.999);
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
      ticks.push(Number((i * step).toPrecision(12)));
    }
    return ticks;
  };

  /** Return ticks of a logarithmic axis: powers of ten, every so many, or 1, 2, 5; linear ones within a factor of 4. */
  dln.logTicks = function (low, high, count) {
    if (!(low > 0) || !(high > low)) return [low];
    if (high / low < 4) return dln.linearTicks(low, high, count).filter((tick) => tick > 0);
    const first = Math.floor(Math.log10(low));
    const last = Math.ceil(Math.log10(high));
    const factors = (last - first) * 3 <= count + 2 ? [1, 2, 5] : [1];
    const stride = factors.length > 1 ? 1 : Math.max(1, Math.ceil((last - first) / Math.max(count, 1)));
    const ticks = [];
    for (let exponent = first; exponent <= last; exponent++) {
      if (exponent % stride) continue;
      for (const factor of factors) {
        const tick = Number(`${factor}e${exponent}`);
        if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) ticks.push(tick);
      }
    }
    return ticks.length > 1 ? ticks : dln.linearTicks(low, high, count).filter((tick) => tick > 0);
  };

  /** Return what the page carries under an id as JSON. */
  dln.data = function (id) {
    return JSON.parse(document.getElementById(id).textContent);
  };

  /** Return the bytes that the page carries under an id: base64 of gzip. @returns {Promise<ArrayBuffer>} */
  dln.block = async function (id) {
    const text = atob(document.getElementById(id).textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  };

  /** Offer a text or a Blob to the user as a file. */
  dln.download = function (name, content, type = "text/plain") {
    const blob = content instanceof Blob ? content : new Blob([content], { type });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  /**
   * Return a new element.
   * @param {string} tag
   * @param {object} attributes Attributes; `text` is its text, `on` its listeners by the names of events.
   * @param {...Node} children
   */
  dln.element = function (tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") made.textContent = value;
      else if (name === "on")
        for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  };
})(window.dln);
