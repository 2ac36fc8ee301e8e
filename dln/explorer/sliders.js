// The settings: a slider and a field for every number, a list for every word, a box for every yes or no.
"use strict";

(function (dln) {
  const LAST = 1000; // the last place of a slider whose places are not its values

  /** Return a number of a control, rounded to what its slider can hold. */
  function rounded(control, value) {
    const within = Math.min(Math.max(value, control.least), control.most);
    return control.kind === "whole" ? Math.round(within) : Number(within.toPrecision(3));
  }

  /** Whether places of a slider are whole numbers themselves. */
  function plain(control) {
    return control.kind === "whole" && !control.log && !control.none;
  }

  /** Return the value at a place of a slider, from 0 to LAST; the last one is null if the control can be. */
  function valueAt(control, place) {
    if (plain(control)) return place;
    if (control.none && place >= LAST) return null;
    const share = place / (control.none ? LAST - 20 : LAST);
    const { least, most } = control;
    return rounded(
      control,
      control.log ? least * (most / least) ** Math.min(share, 1) : least + (most - least) * Math.min(share, 1),
    );
  }

  function placeOf(control, value) {
    if (plain(control)) return value;
    if (value === null) return LAST;
    const { least, most } = control;
    const share = control.log ? Math.log(value / least) / Math.log(most / least) : (value - least) / (most - least);
    return Math.round(share * (control.none ? LAST - 20 : LAST));
  }

  /**
   * Fill a form with the settings.
   * @param {HTMLElement} host
   * @param {() => object} stateOf Returns the present state.
   * @param {(event: Event) => void} moved Is called when a setting has changed.
   */
  dln.explorer.sliders = function (host, stateOf, moved) {
    const { controls, told, valueOf, set } = dln.explorer;
    const shown = []; // what `show` brings up to date

    function setting(control, lane) {
      const id = `${lane}-${control.key.replaceAll(".", "-")}`;
      const read = () => valueOf(stateOf(), control.key, lane);
      const write = (value, event) => {
        set(stateOf(), control.key, value, lane);
        show();
        moved(event);
      };
      const parts = inputs(control, id, read, write);
      const text = lane === "b" ? `${control.label}, B` : control.label;
      const row = dln.element(
        "div",
        {
          class: control.differs ? `setting ${lane}` : "setting",
          title: control.help,
          "data-key": control.key,
          "data-lane": lane,
        },
        dln.element("label", { for: id, text }),
        ...parts.nodes,
      );
      shown.push(() => {
        const state = stateOf();
        const [key, words] = control.when || [];
        const fits =
          !key || words.includes(valueOf(state, key)) || (state.compare && words.includes(valueOf(state, key, "b")));
        row.hidden = !fits || (lane === "b" && !state.compare);
        parts.show(read());
      });
      return row;
    }

    /** One of the settings that are no control: seeds, what is drawn, ... */
    function own(name, label, choices, part = "asks") {
      const id = `own-${name}`;
      const flag = !choices;
      const input = flag ? dln.element("input", { type: "checkbox", id }) : dln.element("select", { id, class: "one" });
      for (const [value, text] of choices || [])
        input.append(dln.element("option", { value: JSON.stringify(value), text }));
      input.addEventListener("change", (event) => {
        stateOf()[part][name] = flag ? input.checked : JSON.parse(input.value);
        moved(event);
      });
      shown.push(() => {
        const value = stateOf()[part][name];
        if (flag) input.checked = value;
        else input.value = JSON.stringify(value);
      });
      const text = dln.element("label", { for: id, text: label });
      return dln.element(
        "div",
        { class: flag ? "tick" : "setting", "data-own": name },
        ...(flag ? [input, text] : [text, input]),
      );
    }

    function ensemble() {
      const { least, most } = told.seeds;
      const control = { key: "seeds", label: "Seeds", kind: "whole", least, most, log: true, none: "", help: "" };
      const parts = inputs(
        control,
        "own-seeds",
        () => stateOf().asks.seeds,
        (value, event) => {
          stateOf().asks.seeds = value;
          show();
          moved(event);
        },
      );
      shown.push(() => parts.show(stateOf().asks.seeds));
      const row = dln.element(
        "div",
        { class: "setting", "data-key": "seeds", "data-lane": "a" },
        dln.element("label", { for: "own-seeds", text: "Seeds" }),
        ...parts.nodes,
      );
      return [row, own("vary", "They are of", Object.entries(told.choices.vary))];
    }

    function branch() {
      const field = dln.element("input", {
        type: "number",
        id: "own-branch",
        class: "one",
        min: 0,
        step: 1,
        placeholder: "start",
      });
      field.addEventListener("change", (event) => {
        stateOf().asks.branch_at = field.value === "" ? null : Math.max(0, Math.round(Number(field.value)));
        moved(event);
      });
      const row = dln.element(
        "div",
        { class: "setting b" },
        dln.element("label", { for: "own-branch", text: "B leaves A at step" }),
        field,
      );
      shown.push(() => {
        row.hidden = !stateOf().compare;
        field.value = stateOf().asks.branch_at ?? "";
      });
      return row;
    }

    function show() {
      host.classList.toggle("comparing", stateOf().compare);
      for (const bring of shown) bring();
    }

    const words = (list) => list.map((word) => [word, word.replaceAll("_", " ")]);
    const groups = new Map();
    for (const control of controls.values()) {
      const rows = groups.get(control.group) || groups.set(control.group, []).get(control.group);
      rows.push(setting(control, "a"), ...(control.differs ? [setting(control, "b")] : []));
    }
    groups.get("Training").push(branch());
    groups.set("Ensemble", ensemble());
    groups.set("Picture", [
      own("theory", "Theory", words(told.choices.theory)),
      own("further", "Further metric", words(told.choices.further)),
      own(
        "records",
        "Records",
        [17, 33, 65, 129, 257].map((count) => [count, String(count)]),
      ),
      own("spacing", "Axis of steps", words(told.choices.spacing)),
      own("sharpness", "Sharpness"),
      own("logarithmic", "Logarithmic losses and sharpness", null, "view"),
      own("curves", "Curves of single seeds", null, "view"),
    ]);
    for (const [title, rows] of groups)
      host.append(dln.element("fieldset", {}, dln.element("legend", { text: title }), ...rows));
    host.addEventListener("submit", (event) => event.preventDefault());
    show();
    return { show };
  };

  /** Return the inputs of one control, and what brings them up to date. */
  function inputs(control, id, read, write) {
    if (control.kind === "flag") {
      const box = dln.element("input", { type: "checkbox", id, class: "one" });
      box.addEventListener("change", (event) => write(box.checked, event));
      return { nodes: [box], show: (value) => (box.checked = value) };
    }
    if (control.kind === "word") {
      const list = dln.element(
        "select",
        { id, class: "one" },
        ...control.choices.map((word) => dln.element("option", { value: word, text: word.replaceAll("_", " ") })),
      );
      list.addEventListener("change", (event) => write(list.value, event));
      return { nodes: [list], show: (value) => (list.value = value) };
    }
    const whole = plain(control);
    const range = dln.element("input", {
      type: "range",
      id,
      min: whole ? control.least : 0,
      max: whole ? control.most : LAST,
      step: 1,
    });
    const field = dln.element("input", {
      type: "number",
      class: "one",
      min: control.least,
      max: control.most,
      step: control.kind === "whole" ? 1 : "any",
      placeholder: control.none,
      "aria-label": `${control.label}, exactly`,
    });
    range.addEventListener("input", (event) => write(valueAt(control, Number(range.value)), event));
    field.addEventListener("change", (event) => {
      if (field.value === "" && control.none) return write(null, event);
      const value = Number(field.value);
      if (field.value === "" || !Number.isFinite(value)) return void (field.value = read() ?? "");
      const within = Math.min(Math.max(value, control.least), control.most);
      write(control.kind === "whole" ? Math.round(within) : within, event);
    });
    function show(value) {
      range.value = placeOf(control, value);
      range.setAttribute("aria-valuetext", value === null ? control.none : String(value));
      if (document.activeElement !== field || Number(field.value) !== value) field.value = value === null ? "" : value;
    }
    return { nodes: [field, range], show };
  }
})(window.dln);
