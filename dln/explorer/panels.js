// The pictures: a panel each, drawn from the newest answer.
"use strict";

(function (dln) {
  const NAMES = ["losses", "modes", "values", "sharpness", "distance", "further"];

  /** Return the panels in an element; `draw(state, answer)` fills them. */
  dln.explorer.panels = function (host) {
    const panels = {};
    for (const name of NAMES) {
      const heading = dln.element("h2", { id: `panel-${name}` });
      const body = dln.element("div");
      const told = { "aria-labelledby": `panel-${name}`, hidden: true, "data-panel": name };
      const section = dln.element("section", told, heading, body);
      host.append(section);
      panels[name] = { section, heading, body, chart: null };
    }

    /**
     * @param {object} state See state.js.
     * @param {{begin: object, curves: object, theory: object, sharpness: object}} answer Frames, by kind: {told, arrays}.
     */
    function draw(state, answer) {
      const specs = dln.explorer.specs(state, answer);
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
})(window.dln);
