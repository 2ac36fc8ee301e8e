// The sections of what was run: events, what varies and what is fixed, versions, commands, and what this file holds.
"use strict";

(function (dln) {
  function section(title, ...children) {
    return dln.element("section", {}, dln.element("h2", { text: title }), ...children);
  }

  function table(head, rows) {
    const line = (tag, cells) =>
      dln.element("tr", {}, ...cells.map((text) => dln.element(tag, { text, scope: tag === "th" ? "col" : null })));
    const made = dln.element(
      "table",
      {},
      dln.element("thead", {}, line("th", head)),
      dln.element("tbody", {}, ...rows.map((row) => line("td", row))),
    );
    return dln.element(
      "div",
      { class: "scroll words", tabindex: "0", role: "region", "aria-label": head.join(", ") },
      made,
    );
  }

  function events(part) {
    const found = part.rows.events.map((name) => {
      const values = Array.from(part.value(name))
        .filter(Number.isFinite)
        .sort((a, b) => a - b);
      const at = (share) => (values.length ? dln.number(values[Math.round(share * (values.length - 1))]) : "-");
      return [name, `${values.length} of ${part.rows.rows}`, at(0), at(0.5), at(1)];
    });
    if (!found.length) return [];
    return [section("Events", table(["event", "runs that have it", "smallest", "median", "largest"], found))];
  }

  function config(part) {
    const varying = part.keys.map((key) => [
      key.name,
      String(key.texts.length),
      listed(key.texts),
      part.over.includes(key.name) ? "averaged over" : "",
    ]);
    const fixed = Object.entries(part.fixed).map(([key, value]) => [key, value]);
    const made = [];
    if (varying.length)
      made.push(dln.element("h3", { text: "What varies" }), table(["key", "values", "which", ""], varying));
    if (fixed.length) {
      const inner = table(["key", "value"], fixed);
      const title = dln.element("summary", {
        text: `${part.kind === "sweep" ? "What is the same in all runs" : "All keys"} (${fixed.length})`,
      });
      made.push(dln.element("details", {}, title, inner));
    }
    return made.length ? [section("Config", ...made)] : [];
  }

  function listed(texts) {
    return texts.length <= 12
      ? texts.join(", ")
      : `${texts.slice(0, 6).join(", ")}, ..., ${texts.slice(-3).join(", ")}`;
  }

  function madeWith(part) {
    const made = [];
    for (const told of part.made_with) {
      const rows = Object.entries(told)
        .filter(([, value]) => value !== null)
        .map(([name, value]) => [name, String(value)]);
      made.push(table(["made with", ""], rows));
    }
    if (part.commands) {
      const copy = dln.element("button", { type: "button", text: "copy" });
      const commands = dln.element("pre", { text: part.commands, tabindex: "0" });
      copy.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(part.commands);
          copy.textContent = "copied";
        } catch {
          getSelection().selectAllChildren(commands); // where pages may not copy, the reader does
          copy.textContent = "selected";
        }
      });
      made.push(dln.element("h3", { text: "Commands" }), commands, copy);
    }
    return made.length ? [section("How it was made", ...made)] : [];
  }

  function file(about, part) {
    const told = [
      `Numbers of curves have a relative error of at most ${dln.number(100 * part.curves.error, 2)} %, final values of 1e-7; zero, infinities and missing values are exact.`,
    ];
    if (part.curves.shown < part.curves.records)
      told.push(
        `Of the ${part.curves.records} records of the longest curve ${part.curves.shown} are kept: half at equal distances, half at equal ratios.`,
      );
    if (part.curves.left_out.length)
      told.push(
        `Curves that were left out, since there are so many: ${part.curves.left_out.join(", ")}; dln report --of names those that are to be kept.`,
      );
    if (part.faults.length) told.push(`Damaged: ${part.faults.join("; ")}.`);
    told.push(`Made by dln ${about.version} (MIT licence). Charts by uPlot 1.6.32, whose licence is:`);
    return section(
      "This file",
      ...told.map((text) => dln.element("p", { text })),
      dln.element(
        "details",
        {},
        dln.element("summary", { text: "licence of uPlot" }),
        dln.element("pre", { text: about.licence }),
      ),
    );
  }

  /** Fill an element with all that is told of a part beside its numbers. */
  dln.aboutView = function (host, about, part) {
    host.append(...events(part), ...config(part), ...madeWith(part), file(about, part));
  };
})(window.dln);
