// What the reader has chosen: kept in the address after "#", and controls that show and change it.
"use strict";

(function (dln) {
  let chosen = new URLSearchParams(location.hash.slice(1));
  const listeners = [];
  let waiting = false;

  function tell() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      for (const listener of listeners) listener();
    });
  }

  /** The reader's choices, by name; what is not chosen is not in the address. */
  dln.state = {
    get: (name, otherwise = "") => chosen.get(name) ?? otherwise,
    all: (name) => chosen.getAll(name),
    /** Set choices by names; null, "" and no values take one back. */
    set(choices) {
      for (const [name, value] of Object.entries(choices)) {
        chosen.delete(name);
        if (Array.isArray(value)) for (const one of value) chosen.append(name, one);
        else if (value !== null && value !== "") chosen.set(name, value);
      }
      history.replaceState(null, "", `#${chosen}`);
      tell();
    },
    clear() {
      chosen = new URLSearchParams();
      history.replaceState(null, "", "#");
      tell();
    },
    onChange: (listener) => listeners.push(listener),
  };

  window.addEventListener("hashchange", () => {
    chosen = new URLSearchParams(location.hash.slice(1));
    tell();
  });

  /**
   * Return a labelled choice of one of some options, bound to the state.
   * @param {string} name
   * @param {string} label
   * @param {() => {value: string, text: string}[]} options The first is what counts if none is chosen.
   */
  dln.choice = function (name, label, options) {
    const select = dln.element("select", { name });
    const made = dln.element("label", {}, document.createTextNode(label), select);
    function sync() {
      const offered = options();
      select.replaceChildren(...offered.map(({ value, text }) => dln.element("option", { value, text })));
      const wanted = dln.state.get(name);
      select.value = offered.some(({ value }) => value === wanted) ? wanted : (offered[0]?.value ?? "");
      made.hidden = offered.length < 2;
    }
    select.addEventListener("change", () => dln.state.set({ [name]: select.selectedIndex ? select.value : null }));
    sync();
    return { made, sync, value: () => select.value };
  };

  /** Return a labelled box to tick, bound to the state: it is ticked unless the state says "no", or only if it says "yes". */
  dln.tick = function (name, label, otherwise = false) {
    const box = dln.element("input", { type: "checkbox", name });
    const made = dln.element("label", { class: "tick" }, box, document.createTextNode(label));
    const sync = () => (box.checked = otherwise ? dln.state.get(name) !== "no" : dln.state.get(name) === "yes");
    box.addEventListener("change", () =>
      dln.state.set({ [name]: box.checked === otherwise ? null : box.checked ? "yes" : "no" }),
    );
    sync();
    return { made, sync, value: () => box.checked };
  };

  /** Return the conditions, or rows, of a part that the reader has not left out: f(place of a key) -> whether it is in. */
  dln.chosenPlaces = function (key) {
    const texts = new Set(dln.state.all(`only.${key.name}`));
    const known = key.texts.some((text) => texts.has(text));
    return key.texts.map((text) => !known || texts.has(text));
  };

  const MOST_BOXES = 60;

  /** Return the boxes by which runs are chosen: a group for each key. */
  dln.filters = function (part) {
    const groups = part.keys.filter((key) => key.texts.length > 1 && key.texts.length <= MOST_BOXES);
    const details = dln.element("details", { class: "no-print" });
    const summary = dln.element("summary");
    const holder = dln.element("div", { class: "filters" });
    details.append(summary, holder);
    details.hidden = !groups.length;
    const boxes = [];
    for (const key of groups) {
      const name = `only.${key.name}`;
      const field = dln.element("fieldset", {}, dln.element("legend", { text: key.name }));
      const own = key.texts.map((text) => {
        const box = dln.element("input", { type: "checkbox", value: text, name });
        field.append(dln.element("label", { class: "tick" }, box, document.createTextNode(text)));
        boxes.push({ key, box, place: key.texts.indexOf(text) });
        return box;
      });
      field.addEventListener("change", () => {
        const ticked = own.filter((box) => box.checked).map((box) => box.value);
        dln.state.set({ [name]: ticked.length === own.length ? null : ticked });
      });
      holder.append(field);
    }
    const all = dln.element("button", { type: "button", text: "all runs" });
    all.addEventListener("click", () =>
      dln.state.set(Object.fromEntries(groups.map((key) => [`only.${key.name}`, null]))),
    );
    holder.append(all);
    function sync() {
      const places = new Map(groups.map((key) => [key, dln.chosenPlaces(key)]));
      for (const { key, box, place } of boxes) box.checked = places.get(key)[place];
      const limited = groups.filter((key) => places.get(key).includes(false)).map((key) => key.short);
      summary.textContent = limited.length ? `Runs: chosen by ${limited.join(", ")}` : "Runs: all";
    }
    sync();
    return { made: details, sync };
  };
})(window.dln);
