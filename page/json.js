// JSON as it was written: numbers keep their digits, members their order and their repeats, and each
// value knows where it stands in the text. JSON.parse would round and reorder.

/** @typedef {{kind: "object", members: [string, Value][], start: number, end: number}
 *   | {kind: "array", items: Value[], start: number, end: number}
 *   | {kind: "string", value: string, start: number, end: number}
 *   | {kind: "number", start: number, end: number}
 *   | {kind: "word", start: number, end: number}} Value */

/** A place in a text. */
class Reader {
  /** @param {string} text @param {number} at */
  constructor(text, at) {
    this.text = text;
    this.at = at;
  }

  space() {
    while (" \t\n\r".includes(this.text[this.at]) && this.at < this.text.length) this.at += 1;
  }

  /** @param {string} char */
  take(char) {
    this.space();
    if (this.text[this.at] !== char) throw new SyntaxError(`expected ${char} at ${this.at}`);
    this.at += 1;
  }

  /** Whether the list that begins here goes on. @param {string} end @param {boolean} isFirst */
  more(end, isFirst) {
    this.space();
    if (this.text[this.at] === end) {
      this.at += 1;
      return false;
    }
    if (!isFirst) this.take(",");
    return true;
  }

  /** The names of the members of the object that begins here; whoever asks takes each value. */
  *names() {
    let isFirst = true;
    this.take("{");
    while (this.more("}", isFirst)) {
      isFirst = false;
      this.space();
      const name = this.string();
      this.take(":");
      this.space();
      yield name;
    }
  }

  string() {
    const start = this.at;
    this.take('"');
    for (;;) {
      const char = this.text[this.at];
      if (char === undefined) throw new SyntaxError("a string without an end");
      this.at += char === "\\" ? 2 : 1;
      if (char === '"') return /** @type {string} */ (JSON.parse(this.text.slice(start, this.at)));
    }
  }

  /** @returns {Value} */
  value() {
    this.space();
    const start = this.at;
    const first = this.text[start];
    if (first === "{") {
      /** @type {[string, Value][]} */
      const members = [];
      this.at += 1;
      while (this.more("}", members.length === 0)) {
        this.space();
        const name = this.string();
        this.take(":");
        members.push([name, this.value()]);
      }
      return { kind: "object", members, start, end: this.at };
    }
    if (first === "[") {
      /** @type {Value[]} */
      const items = [];
      this.at += 1;
      while (this.more("]", items.length === 0)) items.push(this.value());
      return { kind: "array", items, start, end: this.at };
    }
    if (first === '"') {
      const value = this.string();
      return { kind: "string", value, start, end: this.at };
    }
    const word = /[-+.\w]*/y;
    word.lastIndex = start;
    const found = word.exec(this.text)?.[0] ?? "";
    if (found === "") throw new SyntaxError(`no value at ${start}`);
    this.at += found.length;
    return { kind: /[-\d]/.test(found[0]) ? "number" : "word", start, end: this.at };
  }

  /** Passes a value over. */
  skip() {
    this.space();
    const nested = /["[\]{}]/g;
    let depth = 0;
    const first = this.text[this.at];
    if (first !== "{" && first !== "[") {
      this.value();
      return;
    }
    do {
      nested.lastIndex = this.at;
      const found = nested.exec(this.text);
      if (!found) throw new SyntaxError("a value without an end");
      this.at = found.index;
      if (found[0] === '"') {
        this.past();
        continue;
      }
      depth += found[0] === "{" || found[0] === "[" ? 1 : -1;
      this.at += 1;
    } while (depth > 0);
  }

  /** Passes a string over. */
  past() {
    const string = /"(?:[^"\\]|\\[^])*"/y;
    string.lastIndex = this.at;
    try {
      if (string.test(this.text)) {
        this.at = string.lastIndex;
        return;
      }
    } catch {
      // A very long string is too much for the expression.
    }
    this.string();
  }
}

/** All of a text as a value.
 * @param {string} text @returns {Value} */
export function parse(text) {
  return new Reader(text, 0).value();
}

/** An event as it is shown: its fields, and its payload as it was written.
 * @typedef {import("openapi").components["schemas"]["StoredEvent"]} StoredEvent
 * @typedef {Omit<StoredEvent, "payload"|"timestamp"> & {payload: string, timestamp: string}} Shown `timestamp` is
 *   JSON too: a text, or a number as it was written. */

/** The event that begins at a place.
 * @param {Reader} reader @returns {Shown} */
function readEvent(reader) {
  const event = {};
  for (const name of reader.names()) {
    const start = reader.at;
    reader.skip();
    const text = reader.text.slice(start, reader.at);
    event[name] = name === "payload" || name === "timestamp" ? text : JSON.parse(text);
  }
  return /** @type {Shown} */ (event);
}

/** An event. @param {string} text */
export function event(text) {
  return readEvent(new Reader(text, 0));
}

/** A page of events, each with its payload as it was written.
 * @param {string} text
 * @returns {{events: Shown[], next_cursor: string|null}} */
export function page(text) {
  const reader = new Reader(text, 0);
  const events = [];
  let cursor = null;
  for (const name of reader.names()) {
    if (name === "events") {
      reader.take("[");
      while (reader.more("]", events.length === 0)) events.push(readEvent(reader));
      continue;
    }
    const start = reader.at;
    reader.skip();
    if (name === "next_cursor") cursor = JSON.parse(text.slice(start, reader.at));
  }
  return { events, next_cursor: cursor };
}
