// The page: from settings to questions, from answers to pictures, and what can be taken along.
"use strict";

(function (dln) {
  const { told, fresh, parse, fragment, question } = dln.explorer;
  const byId = (id) => document.getElementById(id);
  let state = parse(location.hash.slice(1));
  const NOTED = 250; // milliseconds
  let noting = 0;
  let answer = {}; // frames of the newest answer, by kind
  let drawn = null; // the question that they answer

  const panels = dln.explorer.panels(byId("panels"));
  const asker = dln.explorer.asker({ frame, fault });
  const sliders = dln.explorer.sliders(byId("sliders"), () => state, moved);

  /** What was drawn, for measurements: when a question was asked and when its picture was there. */
  dln.explorer.pictures = [];
  dln.explorer.spec = panels.spec;
  dln.explorer.busy = asker.busy;

  /** Keep the state in the address; browsers do not like that at every movement. */
  function note() {
    clearTimeout(noting);
    noting = 0;
    history.replaceState(null, "", `${location.pathname}${location.search}#${fragment(state)}`);
  }

  function moved(event) {
    const asked = JSON.stringify(question(state));
    if (!noting) noting = setTimeout(note, NOTED);
    byId("compare").checked = state.compare;
    if (asked === drawn && answer.curves) return draw(); // only how it looks has changed
    drawn = asked;
    byId("state").dataset.busy = "true";
    asker.ask(question(state), event);
  }

  function frame(asked, head, arrays) {
    if (head.kind === "begin") {
      // What is there stays to be seen until there is something new.
      answer.next = { begin: { told: head, arrays } };
      return;
    }
    if (head.kind === "fault") return fault(head.fault);
    byId("fault").hidden = true;
    if (answer.next) answer = answer.next;
    if (head.kind === "done") {
      byId("state").dataset.busy = "false";
      return;
    }
    answer[head.kind] = { told: head, arrays };
    draw();
    say(head);
    const seeds = head.seeds ?? null;
    const kind = head.kind;
    requestAnimationFrame(() => {
      // The frame's picture is on the screen once this one has been painted.
      const channel = new MessageChannel();
      channel.port1.onmessage = () =>
        dln.explorer.pictures.push({
          number: asked.number,
          kind,
          seeds,
          of: head.of ?? null,
          asked: asked.at,
          drawn: performance.now(),
        });
      channel.port2.postMessage(null);
    });
  }

  function draw() {
    panels.draw(state, answer);
  }

  function say(head) {
    if (head.kind === "curves") {
      const lost = head.diverged ? `; ${head.diverged} diverged` : "";
      const part = head.seeds < head.of ? ` of ${head.of}` : "";
      byId("state").textContent =
        `${head.seeds}${part} ${head.of === 1 ? "seed" : "seeds"}, ${head.steps[head.steps.length - 1]} steps${lost}${head.seconds ? `, ${Math.round(head.seconds * 1000)} ms` : ""}`;
    }
    if (head.kind === "theory") {
      const good = Object.entries(head.conditions || {}).map(
        ([name, value]) => `${name.replace(`_${head.theory}`, "").replaceAll("_", " ")} ${dln.number(value, 2)}`,
      );
      byId("state").textContent += head.fault ? `. ${head.fault}` : `. ${head.theory}: ${good.join(", ")}`;
    }
  }

  function fault(text) {
    byId("fault").textContent = text;
    byId("fault").hidden = false;
    byId("state").dataset.busy = "false";
  }

  /** Take a whole state. */
  function take(wanted) {
    state = wanted;
    sliders.show();
    moved();
  }

  for (const [i, preset] of told.presets.entries())
    byId("preset").append(dln.element("option", { value: String(i), text: preset.name }));
  byId("preset").addEventListener("change", () => {
    const preset = told.presets[byId("preset").value];
    byId("look").hidden = !preset;
    if (!preset) return;
    byId("look").textContent = `${preset.look} (${preset.source})`;
    const wanted = fresh();
    Object.assign(wanted, {
      values: { ...preset.values },
      other: { ...preset.other },
      compare: Object.keys(preset.other).length > 0,
    });
    for (const [name, value] of Object.entries(preset.asks)) wanted.asks[name] = value;
    wanted.view = { ...state.view };
    take(wanted);
  });
  byId("compare").addEventListener("change", () => {
    state.compare = byId("compare").checked;
    sliders.show();
    moved();
  });
  byId("defaults").addEventListener("click", () => {
    byId("preset").value = "";
    byId("look").hidden = true;
    take(fresh());
  });
  byId("theme").addEventListener("change", () => dln.setTheme(byId("theme").value));
  dln.onTheme(draw);
  window.addEventListener("pagehide", () => noting && note());
  window.addEventListener("hashchange", () => take(parse(location.hash.slice(1))));

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const text = answer.begin?.told[button.dataset.copy];
      if (!text) return;
      byId("copied").textContent = text;
      byId("copied").hidden = false;
      try {
        await navigator.clipboard.writeText(text);
        byId("state").textContent = "Copied.";
      } catch {
        byId("state").textContent = "The browser does not let pages copy: take the text below.";
      }
    });
  }
  byId("picture").addEventListener("click", async () => dln.download("explored.png", await panels.picture()));
  byId("figure").addEventListener("click", async () => {
    byId("figure").disabled = true;
    try {
      dln.download("explored.pdf", await dln.explorer.figure(question(state)));
    } catch (error) {
      fault(error.message);
    }
    byId("figure").disabled = false;
  });
  byId("data").addEventListener("click", () => dln.download("explored.csv", csv(), "text/csv"));

  /** Return what is drawn as CSV: quantiles of all members, and members one by one; sharpness has rows of its own. */
  function csv() {
    const lines = [`# ${answer.begin.told.command}`];
    for (const kind of ["curves", "theory", "sharpness"]) {
      const part = answer[kind];
      if (!part || part.told.fault) continue;
      const heads = ["step"];
      const columns = [part.told.steps];
      for (const [name, rows] of Object.entries(part.arrays)) {
        const single = name.endsWith("|members");
        rows.forEach((row, i) => {
          heads.push(single ? `${name.replace("|members", "")} seed ${i}` : `${name} ${["q10", "median", "q90"][i]}`);
          columns.push(row);
        });
      }
      lines.push(`# ${kind}`, heads.map((head) => `"${head}"`).join(","));
      part.told.steps.forEach((_, t) =>
        lines.push(columns.map((column) => (Number.isFinite(column[t]) ? column[t] : "")).join(",")),
      );
    }
    return `${lines.join("\n")}\n`;
  }

  sliders.show();
  moved();
})(window.dln);
