// The section of final values: a table of conditions, or of every run, that is sorted and saved.
"use strict";

(function (dln) {
  const SHOWN = 100;
  const MOST_COLUMNS = 40;

  /** Return a number so that a program reads it back; nothing where there is none. */
  dln.plainNumber = (value) => (value === null || value === undefined || Number.isNaN(value) ? "" : String(value));

  /** Return lines of cells as a CSV text. */
  dln.csv = function (lines) {
    const cell = (value) =>
      /[",\n\r]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
    return lines.map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
  };

  /** Return a name that a file can have. */
  dln.fileName = (text) => text.replace(/[^\p{L}\p{N}._ -]+/gu, "_").slice(0, 80) || "report";

  /** Return a table of conditions: keys, how many runs, how many diverged, means and standard deviations. */
  function ofConditions(part, conditions) {
    const wanted = new Map(conditions.map((condition, i) => [condition, i]));
    const count = conditions.length;
    const [runs, diverged] = [new Float64Array(count), new Float64Array(count)];
    part.row.condition.forEach((condition, row) => {
      const i = wanted.get(condition);
      if (i === undefined) return;
      runs[i] += part.row.runs[row];
      diverged[i] += part.row.diverged[row];
    });
    const columns = part.by.map((key) =>
      keyColumn(
        key,
        conditions.map((condition) => part.placeOf(condition, key)),
      ),
    );
    columns.push({ name: "runs", values: runs }, { name: "diverged", values: diverged });
    const several = runs.some((number) => number > 1);
    for (const name of part.rows.values) {
      const { mean, std } = moments(part, name, wanted, count);
      columns.push({ name, values: mean });
      if (several) columns.push({ name: `${name} std`, values: std });
    }
    return columns;
  }

  /** Return means and standard deviations of a value over the runs of each condition that did not diverge. */
  function moments(part, name, wanted, count) {
    const event = part.rows.events.includes(name);
    const values = part.value(name);
    const spread = part.spread(name);
    const [number, mean, square, std] = [0, 0, 0, 0].map(() => new Float64Array(count));
    part.row.condition.forEach((condition, row) => {
      const i = wanted.get(condition);
      const counted = part.row.runs[row] - (event ? 0 : part.row.diverged[row]);
      if (i === undefined || counted <= 0 || !Number.isFinite(values[row])) return;
      number[i] += 1;
      const shift = values[row] - mean[i];
      mean[i] += shift / number[i];
      square[i] += shift * (values[row] - mean[i]);
      if (spread) std[i] = spread[row];
    });
    for (let i = 0; i < count; i++) {
      if (!number[i]) mean[i] = NaN;
      if (!spread) std[i] = number[i] > 1 ? Math.sqrt(square[i] / (number[i] - 1)) : NaN;
    }
    return { mean, std };
  }

  /** Return a table of every run that was chosen. */
  function ofRuns(part, conditions) {
    const wanted = new Set(conditions);
    const seeds = part.keys
      .filter((key) => !part.by.includes(key))
      .map((key) => [part.place[key.name], dln.chosenPlaces(key)]);
    const rows = [];
    part.row.condition.forEach((condition, row) => {
      if (wanted.has(condition) && seeds.every(([place, places]) => places[place[row]])) rows.push(row);
    });
    const columns = part.keys.map((key) =>
      keyColumn(
        key,
        rows.map((row) => part.place[key.name][row]),
      ),
    );
    for (const name of part.rows.values)
      columns.push({ name, values: Float64Array.from(rows, (row) => part.value(name)[row]) });
    return columns;
  }

  function keyColumn(key, places) {
    return { name: key.name, values: places, text: (place) => key.texts[place] };
  }

  /** Return the order of rows by a column: numbers before what has none. */
  function sorted(columns, name, down) {
    const order = Array.from({ length: columns[0]?.values.length ?? 0 }, (_, i) => i);
    const column = columns.find((one) => one.name === name);
    if (!column) return order;
    const { values } = column;
    return order.sort((a, b) => {
      const [one, other] = [values[a], values[b]];
      if (Number.isNaN(one) || Number.isNaN(other)) return Number.isNaN(one) - Number.isNaN(other) || a - b;
      return (down ? other - one : one - other) || a - b;
    });
  }

  /** Fill a section with the table of a part. */
  dln.tableView = function (host, part) {
    const kinds = [
      { value: "conditions", text: "a row for each condition" },
      { value: "runs", text: "a row for each run" },
    ];
    const rows = dln.choice("rows", "rows", () => (part.over.length && !part.rows.summed ? kinds : kinds.slice(0, 1)));
    const csv = dln.element("button", { type: "button", text: "save table (CSV)" });
    const more = dln.element("button", { type: "button" });
    const table = dln.element("table");
    const scroll = dln.element(
      "div",
      { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "final values" },
      table,
    );
    const note = dln.element("p", { class: "muted" });
    host.append(dln.element("div", { class: "controls" }, rows.made, csv), scroll, note, more);
    let shown = SHOWN;

    function columns() {
      const conditions = dln.chosenConditions(part);
      return rows.value() === "runs" ? ofRuns(part, conditions) : ofConditions(part, conditions);
    }

    function render() {
      rows.sync();
      const every = columns();
      if (part.kind !== "sweep") return renderRun();
      const by = dln.state.get("sort");
      const down = dln.state.get("down") === "yes";
      const order = sorted(every, by, down);
      const visible = every.slice(0, MOST_COLUMNS);
      const head = visible.map((column) => {
        const current = column.name === by;
        const button = dln.element("button", {
          type: "button",
          text: `${column.name}${current ? (down ? " ▼" : " ▲") : ""}`,
        });
        button.addEventListener("click", () =>
          dln.state.set({ sort: current && down ? null : column.name, down: current && !down ? "yes" : null }),
        );
        return dln.element(
          "th",
          { scope: "col", "aria-sort": current ? (down ? "descending" : "ascending") : "none" },
          button,
        );
      });
      const focused = [...table.querySelectorAll("th button")].indexOf(document.activeElement);
      const body = order.slice(0, shown).map((row) =>
        dln.element(
          "tr",
          {},
          ...visible.map((column) =>
            dln.element("td", {
              text: column.text ? column.text(column.values[row]) : dln.number(column.values[row]),
            }),
          ),
        ),
      );
      table.replaceChildren(
        dln.element("thead", {}, dln.element("tr", {}, ...head)),
        dln.element("tbody", {}, ...body),
      );
      table.querySelectorAll("th button")[focused]?.focus();
      const hidden = every.length - visible.length;
      const left = part.rows.left_out.length
        ? ` Not in this file, since there are so many runs: ${part.rows.left_out.join(", ")}.`
        : "";
      note.textContent = `${dln.counted(order.length, "row")}${hidden ? `; ${dln.counted(hidden, "column")} more in the CSV` : ""}. Means are of runs that did not diverge.${left}`;
      more.hidden = order.length <= shown;
      more.textContent = `${order.length - shown} more rows`;
    }

    /** Show one run: a line for each value. */
    function renderRun() {
      const body = part.rows.values.map((name) => {
        const [label, told] = [name, dln.number(part.value(name)[0], 6)].map((text) => dln.element("td", { text }));
        return dln.element("tr", {}, label, told);
      });
      table.replaceChildren(dln.element("tbody", {}, ...body));
      more.hidden = true;
    }

    more.addEventListener("click", () => {
      shown += 500;
      render();
    });
    csv.addEventListener("click", () => {
      const every = columns();
      const order = sorted(every, dln.state.get("sort"), dln.state.get("down") === "yes");
      const lines = order.map((row) =>
        every.map((column) => (column.text ? column.text(column.values[row]) : dln.plainNumber(column.values[row]))),
      );
      dln.download(
        `${dln.fileName(part.name)} final values.csv`,
        dln.csv([every.map((column) => column.name), ...lines]),
        "text/csv",
      );
    });
    return { render, columns };
  };
})(window.dln);
