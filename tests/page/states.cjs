// What is shown while there is nothing to show, or nothing new: each state is told in words, and axe finds nothing in it,
// in both themes.

const { assert, audited, browse, open, please, run, until, url } = require("./browser.cjs");

/** Of the colours of both themes, too. */
async function inBothThemes(page, what) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await audited(page, `${what}, ${colorScheme}`);
  }
}

const isReady = (page) => page.getByText("Ready: events are taken.").waitFor();
const bar = (page) => page.locator("#state");

const empty = () => browse(async (page) => {
  for (const [hash, heading, text] of [
    ["#/topics", "Topics", "There are no topics yet."], ["#/events", "Events", "No event is stored yet."], ["#/events?live=1", "Events", "Waiting for events…"],
    ["#/events?topic=none", "Events of none", "No event fits."], ["#/duplicates", "Duplicates", "No event was sent again since the service started."],
    ["#/sources", "Sources", "There are no sources."], ["#/consumers", "Consumers", "There are no consumers."], ["#/now", "Now", "Ready: events are taken."],
  ]) {
    await open(page, hash, heading);
    await page.getByText(text).waitFor();
    await inBothThemes(page, `${hash} of an empty store`);
  }
});

/** An answer that does not come yet. */
const loading = () => browse(async (page) => {
  let answer;
  const wanted = new Promise((resolve) => { answer = resolve; });
  for (const path of ["live", "topics?*", "events?*", "consumers?*", "sources", "duplicates"]) {
    await page.route(`${url}/${path}`, async (route) => {
      await wanted;
      await route.continue();
    });
  }
  for (const [hash, heading, text] of [["", "Now", "Connecting…"], ["#/topics", "Topics", "Loading…"], ["#/events", "Events", "Loading…"],
    ["#/sources", "Sources", "Loading…"], ["#/consumers", "Consumers", "Loading…"], ["#/duplicates", "Duplicates", "Loading…"], ["#/events?live=1", "Events", "Connecting…"]]) {
    await open(page, hash, heading);
    await page.locator("main").getByText(text).first().waitFor();
    await inBothThemes(page, `${hash} while it is loading`);
  }
  await open(page, "", "Now");
  answer();
  await isReady(page);
});

const notReady = () => browse(async (page) => {
  const figures = await firstFigures();
  await told(page, message("figures", { ...figures, ready: false, reason: "the disk <is> full" }));
  await open(page);
  await page.getByText("Not ready: the disk <is> full.").waitFor();
  await until(async () => (await page.title()).startsWith("▲ not ready"), "the title says so");
  await inBothThemes(page, "not ready");
});

/** A store in a database has no journals, and its disk is not this machine's. */
const withoutJournals = () => browse(async (page) => {
  const none = ["journal_bytes", "checkpoint_lag_events", "generations_open", "generations_sealed", "indexes_rebuilding", "disk_free_bytes", "disk_reserve_bytes"];
  await told(page, message("figures", { ...await firstFigures(), ...Object.fromEntries(none.map((name) => [name, null])), promise: "replicated" }));
  await open(page);
  await isReady(page);
  const details = await page.getByLabel("Details").innerText();
  assert.match(details, /the database's primary and its synchronous standbys/);
  for (const name of ["Journals", "Checkpoint lag", "Generations", "Disk left", "Full in"]) assert.ok(!details.includes(name), details);
});

/** The window has each second once, whatever the stream repeats, and a gap for what it left out. */
const numbered = () => browse(async (page) => {
  const { window: samples, figures } = await firstMessages();
  const second = (number) => ({ ...Object.fromEntries(Object.keys(samples.seconds).map((name) => [name, 0])), number, stored: number });
  const window = { seconds: { ...samples.seconds, number: 2 }, tens: samples.tens };
  for (const name of Object.keys(window.seconds)) if (Array.isArray(window.seconds[name])) window.seconds[name] = [1, 2];
  const body = [message("window", window), ...[2, 3, 6].map((number) => message("figures", { ...figures, second: second(number), ten: null }))].join("");
  await told(page, body);
  await open(page);
  const stored = () => page.evaluate(async () => (await import("/page/live.js")).live.window?.seconds.stored);
  await until(async () => (await stored())?.length === 6, "six seconds");
  assert.deepEqual(await stored(), [1, 2, 3, null, null, 6]);
});

/** Has the page hear this on the stream of figures, and then nothing more. */
const told = (page, body) => page.addInitScript((body) => {
  const { fetch } = window;
  const stream = () => new ReadableStream({ start: (controller) => controller.enqueue(new TextEncoder().encode(body)) });
  window.fetch = async (path, init) => (path === "/live" ? new Response(stream()) : fetch(path, init));
}, body);

const message = (kind, data) => `event: ${kind}\ndata: ${JSON.stringify(data)}\n\n`;

/** The first window and figures of the service. */
async function firstMessages() {
  const stop = new AbortController();
  const answer = await fetch(`${url}/live`, { signal: stop.signal });
  let text = "";
  for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
    text += part;
    const [, window, figures] = text.match(/event: window\ndata: (.*)\n\nevent: figures\ndata: (.*)\n\n/) ?? [];
    if (!figures) continue;
    stop.abort();
    return { window: JSON.parse(window), figures: JSON.parse(figures) };
  }
  throw new Error(`the stream ends: ${text}`);
}

const firstFigures = async () => (await firstMessages()).figures;

/** A page that nobody sees gives its connection back, says so, and comes back at once. */
const hidden = () => browse(async (page) => {
  await page.clock.install();
  await open(page);
  await isReady(page);
  const see = (isHidden) => page.evaluate((isHidden) => {
    Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, isHidden);
  await see(true);
  await page.clock.fastForward(61_000);
  await page.getByText("Paused, as nobody has looked for a minute.").waitFor();
  await bar(page).getByText("Paused", { exact: true }).waitFor();
  await inBothThemes(page, "hidden");
  await see(false);
  await isReady(page);
  await bar(page).getByText("Live", { exact: true }).waitFor();
});

/** A service that stands still under an open page, and one that is gone. */
const stale = () => browse(async (page, context) => {
  await open(page);
  await isReady(page);
  const other = await context.newPage();
  await open(other);
  await isReady(other);
  await please("hold");
  await other.getByRole("link", { name: "Topics" }).click();
  await other.getByText("Loading…").waitFor();
  await page.getByText("The service has told nothing for some seconds. What is shown is old.").waitFor();
  await bar(page).getByText("No news").waitFor();
  await until(async () => (await page.title()).startsWith("○"), "the title says so");
  await inBothThemes(page, "stale");
  await other.getByRole("alert").getByText("The service takes longer than 30 seconds.").waitFor({ timeout: 45_000 });
  await inBothThemes(other, "too slow");
  await please("go on");
  await isReady(page);
  await other.getByRole("button", { name: "Try again" }).click();
  await other.getByText("There are no topics yet.").waitFor();
  await please("kill");
  await page.getByText("What is shown is old; this page tries again by itself.").waitFor();
  await inBothThemes(page, "disconnected");
  await other.getByRole("button", { name: "Refresh" }).click();
  await other.getByRole("alert").getByText("The service does not answer.").waitFor();
  await inBothThemes(other, "no answer");
}, { expected: ["net::ERR_", "Failed to load resource"] });

run(async () => {
  for (const state of [empty, loading, notReady, withoutJournals, numbered, hidden, stale]) await state();
});
