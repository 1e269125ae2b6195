// Server-sent events by fetch, which can send a token. A stream that ends is asked for again from
// the last event that came whole, so that none is lost or given twice.

import { Refused, send } from "./api.js";

/** Silence after which a stream is given up: three signs of life. */
const SILENCE_MS = 45_000;
const WAIT_MS = [500, 1_000, 2_000, 5_000];

/** @typedef {{kind: string, data: string, id: string}} Message */

/** Gives the messages of a stream until the signal ends it.
 * @param {() => string} path asked for each attempt
 * @param {AbortSignal} signal
 * @param {(messages: Message[]) => void} take
 * @param {(state: "open"|"lost"|"refused", why?: Refused) => void} tell */
export async function follow(path, signal, take, tell) {
  let last = "";
  let failures = 0;
  while (!signal.aborted) {
    try {
      /** @type {Record<string, string>} */
      const headers = { accept: "text/event-stream" };
      if (last) headers["last-event-id"] = last;
      await read(path(), signal, headers, (messages) => {
        failures = 0;
        last = messages.at(-1)?.id || last;
        take(messages);
      }, () => tell("open"));
      // A service that stops ends its streams.
      tell("lost", new Refused(0, "The stream has ended."));
    } catch (e) {
      if (signal.aborted) return;
      const why = e instanceof Refused ? e : new Refused(0, "The connection was lost.");
      const isFinal = why.status >= 400 && why.status < 500 && why.status !== 429 && why.status !== 408;
      if (isFinal) {
        tell("refused", why);
        return;
      }
      tell("lost", why);
    }
    await pause(WAIT_MS[Math.min(failures, WAIT_MS.length - 1)], signal);
    failures += 1;
  }
}

/** Reads one answer to its end. */
async function read(path, signal, headers, take, begun) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  try {
    const answer = await send(path, { headers, signal: AbortSignal.any([signal, silence.signal]) });
    if (!answer.body) return;
    begun();
    const parser = new Parser();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      const messages = parser.push(value);
      if (messages.length > 0) take(messages);
    }
  } finally {
    clearTimeout(timer);
    silence.abort();
  }
}

/** Cuts text to messages. What has not come whole is kept, and lost with the stream. */
export class Parser {
  constructor() {
    /** Parts of the line that has not ended. @type {string[]} */
    this.line = [];
    this.message = { kind: "message", data: "", id: "" };
  }

  /** @param {string} text @returns {Message[]} */
  push(text) {
    const messages = [];
    let at = 0;
    for (let end; (end = text.indexOf("\n", at)) >= 0; at = end + 1) {
      this.line.push(text.slice(at, end));
      const line = this.line.join("");
      this.line = [];
      if (line === "") {
        if (this.message.data) messages.push(this.message);
        this.message = { kind: "message", data: "", id: this.message.id };
        continue;
      }
      const colon = line.indexOf(":");
      const value = line.slice(colon + 1).replace(/^ /, "");
      const name = line.slice(0, colon);
      if (name === "data") this.message.data += this.message.data ? `\n${value}` : value;
      else if (name === "id") this.message.id = value;
      else if (name === "event") this.message.kind = value;
    }
    this.line.push(text.slice(at));
    return messages;
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve(undefined);
    }, { once: true });
  });
}
