// The pictures: which curves are in which panel, and how they look.
"use strict";

(function (dln) {
  const DASH = [6, 4]; // what theories say
  const DOTS = [2, 2]; // modes of setting B
  const TITLES = {
    losses: ["Losses", "mean squared error"],
    modes: ["Mode strengths", "strength of the teacher's modes"],
    values: ["Singular values of the map", "singular value"],
    sharpness: ["Sharpness, and 2 / lr", "largest eigenvalue of the Hessian"],
    distance: ["Distance of the two settings", "distance"],
    further: ["", ""],
  };

  /** Return the panels in an element; `draw(state, answer)` fills them. */
  dln.explorer.panels = function (host) {
    const panels = {};
    for (const [name, [title]] of Object.entries(TITLES)) {
      const heading = dln.element("h2", { text: title, id: `panel-${name}` });
      const body = dln.element("div");
      const section = dln.element("section", { "aria-labelledby": `panel-${name}`, hidden: true, "data-panel": name }, heading, body);
      host.append(section);
      panels[name] = { section, heading, body, chart: null };
    }

    /**
     * @param {object} state See state.js.
     * @param {{begin: object, curves: object, theory: object, sharpness: object}} answer Frames, by kind: {told, arrays}.
     */
    function draw(state, answer) {
      const specs = specsOf(state, answer);
      for (const [name, panel] of Object.entries(panels)) {
        const spec = specs[name];
        panel.section.hidden = !spec;
        if (!spec) continue;
        if (panel.heading.textContent !== spec.label) panel.heading.textContent = spec.label;
        panel.chart ||= dln.chart(panel.body, { height: 250 });
        panel.chart.draw(spec);
      }
    }

    /** Return all pictures in one, below one another in two columns. @returns {Promise<Blob>} */
    async function picture() {
      const shown = Object.values(panels).filter((panel) => !panel.section.hidden);
      const images = await Promise.all(shown.map(async (panel) => createImageBitmap(await panel.chart.png())));
      const width = Math.max(...images.map((image) => image.width));
      const title = 28 * devicePixelRatio;
      const rows = [];
      for (let i = 0; i < images.length; i += 2)
        rows.push(Math.max(...images.slice(i, i + 2).map((image) => image.height)) + title);
      const canvas = dln.element("canvas", {
        width: width * Math.min(2, images.length),
        height: rows.reduce((sum, row) => sum + row, 0),
      });
      const context = canvas.getContext("2d");
      context.fillStyle = dln.colour("--paper");
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.fillStyle = dln.colour("--ink");
      context.font = `600 ${14 * devicePixelRatio}px system-ui, sans-serif`;
      let top = 0;
      images.forEach((image, i) => {
        context.fillText(shown[i].heading.textContent, (i % 2) * width + 8, top + 0.7 * title);
        context.drawImage(image, (i % 2) * width, top + title);
        if (i % 2) top += rows[(i - 1) / 2];
      });
      return new Promise((resolve) => canvas.toBlob(resolve));
    }

    return { draw, picture, spec: (name) => (panels[name].section.hidden ? null : panels[name].chart.spec()) };
  };

  /** Return what the panels show, by their names; one that has nothing to show is left out. */
  function specsOf(state, answer) {
    const specs = {};
    const lanes = answer.begin && "_a" in answer.begin.told.lr ? ["_a", "_b"] : [""];
    const label = (lane, text) => (lane ? `${text}, ${lane.slice(1).toUpperCase()}` : text);
    const log = state.asks.spacing === "log";
    const x = { label: "step", log };
    const spec = (name, curves, more = {}) => {
      const [title, unit] = TITLES[name];
      if (curves.length) specs[name] = { label: title, x, y: { label: unit, log: false }, curves, ...more };
    };

    /** The curves of a column of a frame: its band, and members one by one if they are asked for. */
    function curvesOf(frame, column, text, colour, more = {}) {
      const rows = frame?.arrays[column];
      if (!rows) return [];
      const steps = Float64Array.from(frame.told.steps);
      const from = log ? steps.findIndex((step) => step > 0) : 0;
      const cut = (row) => row.subarray(from, steps.length);
      const [low, y, high] = rows.map(cut);
      const own = { x: steps.subarray(from), colour, ...more };
      const members = state.view.curves ? frame.arrays[`${column}|members`] || [] : [];
      return [
        ...members.map((row) => ({ ...own, y: cut(row), width: 1, alpha: 0.3, legend: false, label: "" })),
        { ...own, y, ...(more.dash === DASH ? {} : { low, high }), label: text },
      ];
    }

    const theory = answer.theory?.told.theory;
    const predicted = (lane, column, text, more = {}) =>
      theory
        ? curvesOf(answer.theory, column(`_${theory}${lane}`), text, "--ink", { dash: DASH, width: 1.2, ...more })
        : [];

    const { curves, sharpness } = answer;
    spec(
      "losses",
      lanes.flatMap((lane) => {
        const colour = (split) => (lane ? dln.LANES[lane] : dln.COLOURS[split]);
        return [
          ...curvesOf(curves, `train_loss${lane}`, label(lane, "training"), colour("train")),
          ...curvesOf(curves, `test_loss${lane}`, label(lane, "test"), colour("test"), lane ? { dash: DOTS, width: 1 } : {}),
          ...predicted(lane, (end) => `train_loss${end}`, label(lane, theory)),
        ];
      }),
      { y: { label: TITLES.losses[1], log: state.view.logarithmic } },
    );
    for (const [name, column, one] of [["modes", "mode_strengths", "mode"], ["values", "singular_values", "value"]]) {
      const count = Object.keys(curves?.arrays || {}).filter((key) => key.startsWith(`${column}${lanes[0]}[`) && !key.includes("|")).length;
      const found = lanes.flatMap((lane) =>
        Array.from({ length: count }, (_, i) => [
          ...curvesOf(curves, `${column}${lane}[${i + 1}]`, label(lane, `${one} ${i + 1}`), dln.ramp(count > 1 ? i / (count - 1) : 0), lane === "_b" ? { dash: DOTS } : {}),
          ...predicted(lane, (end) => `${column}${end}[${i + 1}]`, label(lane, theory), { legend: i === 0 }),
        ]).flat(),
      );
      const levels = (answer.begin?.told.teacher || []).map((y, i, all) => ({ y, label: i < all.length - 1 ? "" : "teacher", colour: dln.COLOURS.teacher }));
      spec(name, found, { levels });
    }
    spec(
      "sharpness",
      lanes.flatMap((lane) => {
        const found = curvesOf(sharpness, `sharpness${lane}`, label(lane, "sharpness"), lane ? dln.LANES[lane] : dln.COLOURS.train);
        if (!found.length) return [];
        const { x: steps } = found[found.length - 1];
        const edge = 2 / answer.begin.told.lr[lane];
        const colour = lane === "_b" ? dln.LANES[lane] : dln.COLOURS.limit;
        return [...found, { x: steps, y: new Float64Array(steps.length).fill(edge), colour, dash: [2, 3], label: label(lane, "2 / lr") }];
      }),
      { y: { label: TITLES.sharpness[1], log: state.view.logarithmic } },
    );
    spec("distance", [
      ...curvesOf(curves, "end_to_end_distance", "of the maps", dln.COLOURS.train),
      ...curvesOf(curves, "param_distance", "of the weights", dln.COLOURS.test),
    ]);
    const asked = state.asks.further;
    if (asked !== "none") {
      TITLES.further = [asked.replaceAll("_", " "), asked.replaceAll("_", " ")];
      const names = Object.keys(curves?.arrays || {}).filter((key) => !key.includes("|"));
      spec(
        "further",
        lanes.flatMap((lane) => {
          const own = names.filter((key) => key === asked + lane || key.startsWith(`${asked}${lane}[`));
          return own.flatMap((key, i) => {
            const colour = lane ? dln.LANES[lane] : own.length > 1 ? dln.ramp(i / (own.length - 1)) : dln.COLOURS.train;
            return curvesOf(curves, key, label(lane, own.length > 1 ? key.slice(asked.length + lane.length) : asked), colour);
          });
        }),
      );
    }
    return specs;
  }
})(window.dln);
