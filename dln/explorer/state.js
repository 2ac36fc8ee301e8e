// What the page is set to: kept in the fragment of its address, and turned into the question that the server answers.
"use strict";

/**
 * @typedef {object} State
 * @property {object} values What controls of setting A are set to, by key; those at their defaults are left out.
 * @property {object} other What setting B has other values of.
 * @property {boolean} compare
 * @property {object} asks seeds, vary, records, spacing, theory, further, sharpness, branch_at.
 * @property {object} view curves, logarithmic: how it is drawn; the server knows nothing of it.
 */

(function (dln) {
  const told = dln.data("explorer");
  const controls = new Map(told.controls.map((control) => [control.key, control]));
  const ASKS = {
    seeds: told.seeds.default,
    vary: "training.model_seed",
    records: 65,
    spacing: "linear",
    theory: "none",
    further: "none",
    sharpness: true,
    branch_at: null,
  };
  const VIEW = { curves: false, logarithmic: true };

  dln.explorer = { told, controls, ASKS, VIEW };

  /** Return a state in which everything is at its default. @returns {State} */
  dln.explorer.fresh = function () {
    return { values: {}, other: {}, compare: false, asks: { ...ASKS }, view: { ...VIEW } };
  };

  /** Return what a control is set to, in setting "a" or "b". */
  dln.explorer.valueOf = function (state, key, lane = "a") {
    if (lane === "b" && key in state.other) return state.other[key];
    return key in state.values ? state.values[key] : controls.get(key).default;
  };

  /** Set a control, and forget what is as it was anyway. */
  dln.explorer.set = function (state, key, value, lane = "a") {
    if (lane === "b") {
      if (value === dln.explorer.valueOf(state, key)) delete state.other[key];
      else state.other[key] = value;
    } else if (value === controls.get(key).default) delete state.values[key];
    else state.values[key] = value;
  };

  /** Return the question that a state asks. */
  dln.explorer.question = function (state) {
    const { branch_at: branch, ...asks } = state.asks;
    const question = { values: { ...state.values }, ...asks };
    if (!state.compare) return question;
    question.reference = {};
    for (const [key, value] of Object.entries(state.other)) {
      question.values[key] = value;
      question.reference[key] = dln.explorer.valueOf(state, key);
    }
    if (branch !== null) question.branch_at = branch;
    return question;
  };

  /** Return a state as the fragment of an address. */
  dln.explorer.fragment = function (state) {
    const words = new URLSearchParams();
    for (const [key, value] of Object.entries(state.values)) words.set(key, JSON.stringify(value));
    if (state.compare) {
      words.set("compare", "true");
      for (const [key, value] of Object.entries(state.other)) words.set(`b.${key}`, JSON.stringify(value));
    }
    for (const [part, usual] of [
      ["asks", ASKS],
      ["view", VIEW],
    ])
      for (const name of Object.keys(usual))
        if (state[part][name] !== usual[name]) words.set(name, JSON.stringify(state[part][name]));
    return words.toString();
  };

  /** Return the state that a fragment stands for; words that say nothing to this page are passed over. */
  dln.explorer.parse = function (fragment) {
    const state = dln.explorer.fresh();
    for (const [word, text] of new URLSearchParams(fragment)) {
      let value;
      try {
        value = JSON.parse(text);
      } catch {
        continue;
      }
      const key = word.startsWith("b.") ? word.slice(2) : word;
      if (word === "compare") state.compare = value === true;
      else if (controls.has(key)) {
        const control = controls.get(key);
        if (key !== word && control.differs) state.other[key] = value;
        else if (key === word) state.values[key] = value;
      } else if (word in ASKS) state.asks[word] = value;
      else if (word in VIEW) state.view[word] = value;
    }
    return state;
  };
})(window.dln);
