// The page: reads its numbers, fills its sections, and draws them anew whenever the reader chooses something.
"use strict";

(function (dln) {
  /** Return how many there are of something: "1 run", "2 runs". */
  dln.counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

  function header(about) {
    document.querySelector("h1").textContent = about.title;
    document.querySelector("#what").textContent = [
      about.kind === "study" ? `study of ${dln.counted(about.runs, "run")}` : "",
      about.about,
    ]
      .filter(Boolean)
      .join(": ");
    const said = document.querySelector("#sentences");
    said.hidden = !about.sentences;
    said.querySelector("pre").textContent = about.sentences;
  }

  function partLine(part) {
    const what = part.kind === "sweep" ? `sweep of ${dln.counted(part.runs, "run")}` : part.kind;
    const failed = part.failed ? `, ${part.failed} failed` : "";
    return `${what}, ${part.state}${failed}${part.sums ? "; sums over runs are kept, no curves of single ones" : ""}${part.about ? `: ${part.about}` : ""}`;
  }

  /** Fill the page. */
  async function open() {
    const { about, parts } = await dln.readReport();
    header(about);
    const theme = dln.choice("theme", "theme", () =>
      ["auto", "light", "dark"].map((value) => ({ value, text: value })),
    );
    const chosenPart = dln.choice("part", "part", () => parts.map((part) => ({ value: part.name, text: part.name })));
    document.querySelector("#top").append(chosenPart.made, theme.made);
    const sections = Object.fromEntries(
      ["curves", "map", "table", "about"].map((name) => [name, document.querySelector(`#${name}`)]),
    );
    let shown = null;
    let views = [];
    let themed = null;

    function fill(part) {
      for (const { charts, heat, chart } of views) {
        for (const one of [...(charts?.() ?? []), heat, chart?.()]) one?.destroy();
      }
      for (const holder of Object.values(sections)) holder.querySelector(".inner").replaceChildren();
      const inner = (name) => sections[name].querySelector(".inner");
      document.querySelector("#part").textContent = partLine(part);
      const curves = dln.curvesView(inner("curves"), part);
      const map = dln.mapView(inner("map"), part, curves);
      sections.map.hidden = !map;
      views = [curves, ...(map ? [map] : []), dln.tableView(inner("table"), part)];
      dln.aboutView(inner("about"), about, part);
      dln.shown = { about, part, curves, map, table: views[views.length - 1] };
      shown = part;
    }

    function render() {
      theme.sync();
      chosenPart.sync();
      if (theme.value() !== themed) dln.setTheme((themed = theme.value()));
      const part = parts.find(({ name }) => name === chosenPart.value()) ?? parts[0];
      if (part !== shown) fill(part);
      for (const view of views) view.render();
    }

    dln.state.onChange(render);
    render();
    performance.mark("drawn");
    document.documentElement.dataset.ready = "yes";
  }

  open();
})(window.dln);
