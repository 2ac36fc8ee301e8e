// Colours: those of dln/figures (Okabe and Ito's palette, viridis), and what follows light and dark from theme.css.
"use strict";

(function (dln) {
  /** Categories, in the order in which figures take them: blue, orange, green, purple, sky, vermilion, brown, grey. */
  dln.PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D46", "#888888"];
  /** The lanes of a comparison. */
  dln.LANES = { _a: "#0072B2", _b: "#D55E00" };
  /** The same thing has the same colour everywhere; what theories say is of the colour of text, and dashed. */
  dln.COLOURS = { train: "#0072B2", test: "#E69F00", batch: "#8FC1E3", teacher: "#CC79A7", limit: "#882255" };
  /** Viridis at equal distances, without the yellows that are lost on white. */
  dln.RAMP = ["#440154", "#482878", "#3e4989", "#31678e", "#26828e", "#1e9c89", "#32b67a", "#69cd5b", "#b0dd2f"];

  /** Return the colour at a place of the ramp, from 0 to 1. */
  dln.ramp = function (place) {
    const at = Math.min(Math.max(place, 0), 1) * (dln.RAMP.length - 1);
    const first = Math.min(Math.floor(at), dln.RAMP.length - 2);
    const part = at - first;
    const [from, to] = [dln.RAMP[first], dln.RAMP[first + 1]].map(channels);
    return `rgb(${from.map((value, i) => Math.round(value + (to[i] - value) * part)).join(" ")})`;
  };

  function channels(hex) {
    return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  }

  /** Return a colour as the canvas takes it: names such as "--ink" are those of theme.css as they are now. */
  dln.colour = function (name, host = document.body) {
    if (!name.startsWith("--")) return name;
    const probe = dln.element("span", { hidden: true });
    probe.style.color = `var(${name})`;
    host.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };

  const listeners = new Set();

  /** Call `listener` whenever colours change; return what stops that. */
  dln.onTheme = function (listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };

  function told() {
    for (const listener of listeners) listener();
  }

  /** Set the theme: "auto" (the system's), "light" or "dark". */
  dln.setTheme = function (theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    told();
  };

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", told);

  // Paper is white: canvases are drawn anew for it, and again afterwards.
  let before;
  window.addEventListener("beforeprint", () => {
    before = document.documentElement.dataset.theme || "auto";
    dln.setTheme("light");
  });
  window.addEventListener("afterprint", () => dln.setTheme(before));
})(window.dln);
