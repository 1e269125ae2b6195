// Asks the service. The token, if there is one, is kept for this tab alone, until it is closed.

/** @typedef {import("openapi").paths} Paths */

const KEY = "sekali.token";
const PATIENCE_MS = 30_000;

/** Why figures are not here, where there should be some. */
export const KEPT = "the figures of this service are kept from this address, as its setting ops_listen says";

/** Tells of "token": it was set or forgotten; and of "wanted": the service asks for one. */
export const tokens = new EventTarget();

/** Why there is no answer, in a sentence for a person. */
export class Refused extends Error {
  /** @param {number} status 0 if the service did not answer @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function token() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** @param {string|null} text */
export function setToken(text) {
  if (text) sessionStorage.setItem(KEY, text);
  else sessionStorage.removeItem(KEY);
  tokens.dispatchEvent(new Event("token"));
}

/** Asks, and gives the answer if it is a good one.
 * @param {string} path
 * @param {RequestInit} [init]
 * @returns {Promise<Response>} */
export async function send(path, init = {}) {
  const headers = new Headers(init.headers);
  const shown = token();
  if (shown) headers.set("authorization", `Bearer ${shown}`);
  let answer;
  try {
    answer = await fetch(path, { ...init, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (e) {
    if (init.signal?.aborted) throw e;
    throw new Refused(0, "The service does not answer.");
  }
  if (answer.ok || answer.status === 207) return answer;
  const refused = new Refused(answer.status, await reason(answer));
  if (answer.status === 401) tokens.dispatchEvent(new CustomEvent("wanted", { detail: refused.message }));
  throw refused;
}

/** @param {Response} answer */
async function reason(answer) {
  try {
    const { detail } = await answer.json();
    if (typeof detail === "string") return detail;
    return detail.map((fault) => `${fault.loc.slice(1).join(".")}: ${fault.msg}`).join("; ");
  } catch {
    return `The service answers ${answer.status}.`;
  }
}

/** The text of an answer that comes within half a minute.
 * @param {string} path
 * @param {AbortSignal} signal
 * @param {RequestInit} [init] */
export async function text(path, signal, init = {}) {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  try {
    const answer = await send(path, { ...init, signal: AbortSignal.any([signal, patience]) });
    return await answer.text();
  } catch (e) {
    if (e instanceof Refused || signal.aborted) throw e;
    throw new Refused(0, patience.aborted ? "The service takes longer than 30 seconds." : "The answer was cut short.");
  }
}

/** What a path answers, and by which query it is asked.
 * @template {keyof Paths} Path
 * @template {"get"|"post"} Method
 * @typedef {Paths[Path] extends Record<Method, {responses: {200: {content: {"application/json": infer Body}}}}> ? Body : never} Answer */
/** @template {keyof Paths} Path
 * @typedef {Paths[Path] extends {get: {parameters: {query?: infer Query}}} ? {[Name in keyof Query]: Query[Name]|null} : never} Query */

/** The JSON that a path answers.
 * @template {keyof Paths} Path
 * @param {Path} path
 * @param {AbortSignal} signal
 * @param {Query<Path>} [query]
 * @returns {Promise<Answer<Path, "get">>} */
export async function get(path, signal, query) {
  return JSON.parse(await text(url(path, query ?? {}), signal, { headers: { accept: "application/json" } }));
}

/** Sends JSON, and gives the JSON that a path answers. In a path, `{name}` stands for a name that is given.
 * @template {keyof Paths} Path
 * @param {Path} path
 * @param {Record<string, string>} names
 * @param {string} body
 * @param {AbortSignal} signal
 * @returns {Promise<Answer<Path, "post">>} */
export async function post(path, names, body, signal) {
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(names[name]));
  const headers = { accept: "application/json", "content-type": "application/json" };
  return JSON.parse(await text(filled, signal, { method: "POST", headers, body }));
}

/** A path with a query of what is given.
 * @param {string} path
 * @param {Record<string, string|number|null|undefined>} query */
export function url(path, query) {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== "");
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text ? `${path}?${text}` : path;
}
