// Questions to the server, one at a time: a newer one takes the place of the one that is being answered.
"use strict";

(function (dln) {
  const PATIENCE = 1500; // milliseconds that a newer question leaves an older one to show its first picture
  const token = new URLSearchParams(location.search).get("token") || "";
  const tab = Array.from(crypto.getRandomValues(new Uint32Array(2)), (word) => word.toString(36)).join("");
  let number = 0;

  /**
   * Return what asks the server.
   * @param {{frame: (asked: object, told: object, arrays: object) => void, fault: (text: string) => void}} listener
   *   `frame` takes every frame of an answer, `fault` what is wrong with a question or the server.
   */
  dln.explorer.asker = function (listener) {
    let current = null; // { number, at, abort, shown }: what is being answered
    let waiting = null; // the newest question behind it
    let timer = 0;

    /** Ask. While a movement goes on, its first picture is waited for, so that there is something to see. */
    function ask(question) {
      waiting = { question, at: performance.now() };
      if (current && !current.shown) {
        if (!timer) timer = setTimeout(next, PATIENCE);
      } else next();
    }

    function next() {
      clearTimeout(timer);
      timer = 0;
      if (!waiting) return;
      if (current) current.abort.abort();
      const asked = { ...waiting, number: ++number, abort: new AbortController(), shown: false };
      waiting = null;
      current = asked;
      answer(asked).catch((error) => {
        if (asked !== current) return;
        current = null;
        listener.fault(`The explorer does not answer (${error.message}). Is dln explore still running?`);
      });
    }

    async function answer(asked) {
      const response = await post("/answer", tab, asked.number, asked.question, asked.abort.signal);
      if (!response.ok) {
        const text = (await response.text()).trim();
        if (asked !== current) return;
        current = null;
        listener.fault(text);
        next();
        return;
      }
      const reader = response.body.getReader();
      const read = frames();
      for (;;) {
        const { done, value } = await reader.read();
        if (asked !== current) return;
        if (done) break;
        for (const [told, arrays] of read(value)) {
          listener.frame(asked, told, arrays);
          if (told.kind === "curves" || told.kind === "fault") asked.shown = true;
        }
        if (asked.shown && waiting) return next();
      }
      current = null;
      next();
    }

    return { ask, busy: () => Boolean(current || waiting) };
  };

  function post(path, name, place, question, signal) {
    const headers = { "content-type": "application/json", "x-dln-token": token };
    return fetch(path, {
      method: "POST",
      headers,
      body: JSON.stringify({ tab: name, number: place, question }),
      signal,
    });
  }

  /** Return the PDF of a question's first run. @returns {Promise<Blob>} */
  dln.explorer.figure = async function (question) {
    const response = await post("/figure", `${tab} figure`, ++number, question);
    if (!response.ok) throw new Error((await response.text()).trim());
    return response.blob();
  };

  /** Return what takes bytes as they come, and gives back the frames that are whole: see dln/explorer/frames.py. */
  function frames() {
    let rest = new Uint8Array(0);
    return function (bytes) {
      const all = new Uint8Array(rest.length + bytes.length);
      all.set(rest);
      all.set(bytes, rest.length);
      const view = new DataView(all.buffer);
      const found = [];
      let at = 0;
      while (at + 8 <= all.length) {
        const text = view.getUint32(at, true);
        const numbers = view.getUint32(at + 4, true);
        if (at + 8 + text + numbers > all.length) break;
        if (text) found.push(frame(all, at + 8, text, numbers));
        at += 8 + text + numbers;
      }
      rest = all.slice(at);
      return found;
    };
  }

  function frame(all, at, text, numbers) {
    const told = JSON.parse(new TextDecoder().decode(all.subarray(at, at + text)));
    const values = new Float32Array(all.slice(at + text, at + text + numbers).buffer);
    const arrays = {};
    let start = 0;
    for (const [name, rows, columns] of told.columns) {
      arrays[name] = Array.from({ length: rows }, (_, i) =>
        values.subarray(start + i * columns, start + (i + 1) * columns),
      );
      start += rows * columns;
    }
    return [told, arrays];
  }
})(window.dln);
