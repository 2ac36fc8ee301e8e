// The numbers of a report: arrays from the page's block, and of each part its curves, rows and keys.
"use strict";

(function (dln) {
  const KINDS = { u2: Uint16Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };
  const FIRST = 4; // codes below stand for NaN, zero and the two infinities; see quantise.py
  const LARGEST = 65535;

  /** Return an array of the block: its bytes of equal weight lie side by side. */
  function unpacked(bytes, { at, kind, shape }) {
    const count = shape.reduce((product, size) => product * size, 1);
    const size = KINDS[kind].BYTES_PER_ELEMENT;
    const joined = new Uint8Array(count * size);
    for (let plane = 0; plane < size; plane++) {
      for (let i = 0, from = at + plane * count; i < count; i++) joined[i * size + plane] = bytes[from + i];
    }
    return new KINDS[kind](joined.buffer);
  }

  /** Return exp of a logarithm; the largest number may have been rounded up. */
  const sized = (logarithm) => Math.min(Math.exp(logarithm), Number.MAX_VALUE);

  /** Return the numbers of curves [N, S, K] that codes stand for, which are kept as differences. */
  function decoded(codes, [, kinds, records], { low, step, split }) {
    const values = new Float64Array(codes.length);
    const curves = records ? codes.length / records : 0;
    for (let curve = 0; curve < curves; curve++) {
      const start = curve * records;
      const first = start - (curve % kinds) * records;
      for (let i = 1; i < records; i++) codes[start + i] += codes[start + i - 1];
      if (first !== start) for (let i = 0; i < records; i++) codes[start + i] += codes[first + i];
    }
    const special = [NaN, 0, Infinity, -Infinity];
    for (let i = 0; i < codes.length; i++) {
      const code = codes[i];
      if (code < FIRST) values[i] = special[code];
      else if (code < split) values[i] = sized(low + (code - FIRST) * step);
      else values[i] = -sized(low + (LARGEST - code) * step);
    }
    return values;
  }

  /** One run or sweep of a report. */
  class Part {
    constructor(told, arrays, bytes) {
      Object.assign(this, told);
      const take = (name) => unpacked(bytes, arrays[this.prefix + name]);
      this.take = take;
      this.manifest = arrays;
      this.columns = told.curves.columns;
      this.kinds = told.curves.kinds;
      this.steps = take("steps");
      [this.conditions, this.records] = arrays[`${this.prefix}steps`].shape;
      this.singleOf = take("runs");
      this.keys = told.rows.keys;
      this.row = { condition: take("condition"), runs: take("runs of rows"), diverged: take("diverged") };
      this.place = Object.fromEntries(this.keys.map((key) => [key.name, take(`key ${key.name}`)]));
      this.firstRow = new Int32Array(this.conditions).fill(-1);
      this.row.condition.forEach((condition, i) => {
        if (this.firstRow[condition] < 0) this.firstRow[condition] = i;
      });
      this.known = new Map();
    }

    cached(name, make) {
      if (!this.known.has(name)) this.known.set(name, make());
      return this.known.get(name);
    }

    /** Final values or an event, by row. */
    value(name) {
      return this.cached(`value ${name}`, () => this.take(`value ${name}`));
    }

    /** Standard deviations of final values, by row, where rows are sums. */
    spread(name) {
      return this.rows.spreads.includes(name) ? this.cached(`spread ${name}`, () => this.take(`spread ${name}`)) : null;
    }

    key(name) {
      return this.keys.find((key) => key.name === name);
    }

    /** The keys that tell conditions apart. */
    get by() {
      return this.cached("by", () => this.keys.filter((key) => this.byNames.includes(key.name)));
    }

    columnNumber(name) {
      return this.columns.findIndex((column) => column.name === name);
    }

    /** All that there is of a column's conditions [C, S, K]. */
    told(number) {
      return this.numbers(`told${number}`);
    }

    /** A column's curves of single runs [N, K]. */
    single(number) {
      return this.numbers(`single${number}`);
    }

    numbers(name) {
      const full = this.prefix + name;
      return this.cached(name, () => decoded(this.take(name), this.manifest[full].shape, this.curves.scales[full]));
    }

    /** One curve of a condition: of a kind such as "mean"; null if there is none. */
    curve(number, condition, kind) {
      const at = this.kinds.indexOf(kind);
      if (at < 0) return null;
      const start = (condition * this.kinds.length + at) * this.records;
      return this.told(number).subarray(start, start + this.records);
    }

    stepsOf(condition) {
      return this.steps.subarray(condition * this.records, (condition + 1) * this.records);
    }

    /** What a key is in a condition, as text, and as its place among the key's values. */
    placeOf(condition, key) {
      return this.place[key.name][this.firstRow[condition]];
    }

    /** The value of a key in a condition: one that varies, or one that is fixed; undefined if there is none. */
    setting(condition, name) {
      const key = this.by.find((one) => one.name === name);
      if (key) return key.values[this.placeOf(condition, key)];
      return this.fixed[name] === undefined ? undefined : Number(this.fixed[name]);
    }
  }

  /** Read the page's numbers. @returns {Promise<{about: object, parts: Part[]}>} */
  dln.readReport = async function () {
    const about = dln.data("report");
    const bytes = new Uint8Array(await dln.block("numbers"));
    const parts = about.parts.map((told) => {
      const { by, ...rest } = told;
      return new Part({ ...rest, byNames: by }, about.arrays, bytes);
    });
    return { about, parts };
  };
})(window.dln);
