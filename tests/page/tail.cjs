// A live list: how it begins, that it waits for its reader and catches up, and a thousand events a second.

const { assert, browse, open, please, run, until } = require("./browser.cjs");

const SECONDS = Number(process.env.SEKALI_PAGE_SECONDS ?? 6);
/** How much what is held may seem to grow in a minute. */
const GROWN_BYTES_MAX = 4_000_000;

/** How many bytes more are held a second, by all samples: the slope of the line through them. */
function growth(samples) {
  const mean = (of) => samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length;
  const [at, bytes] = [mean((sample) => sample.at), mean((sample) => sample.bytes)];
  return mean((sample) => (sample.at - at) * (sample.bytes - bytes)) / mean((sample) => (sample.at - at) ** 2);
}

run(() => browse(async (page, context) => {
  const rows = page.locator("tbody tr");
  const isLive = () => page.getByText("Live", { exact: true }).first().waitFor();

  // A thousand that arrived at one time: the newest are there, and then what comes.
  await open(page, "#/events?topic=batch&live=1", "Events of batch");
  await isLive();
  const ids = () => page.locator("tbody tr td:nth-child(2)").allInnerTexts();
  const newest = Array.from({ length: 50 }, (_, number) => String(999 - number));
  await until(async () => (await ids()).length === 50, "the newest");
  assert.deepEqual(await ids(), newest);
  await please("one");
  await until(async () => (await ids())[0] === "one", "the new one");
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.deepEqual(await ids(), ["one", ...newest]);

  await open(page, "#/events?topic=live&live=1", "Events of live");
  await isLive();
  await please("begin");
  const first = () => rows.first().innerText();
  const moves = async (what) => {
    const before = await first();
    await until(async () => (await first()) !== before, what);
  };
  const stands = async () => {
    const before = await first();
    await new Promise((resolve) => setTimeout(resolve, 600));
    assert.equal(await first(), before);
  };
  const paused = page.getByRole("button", { name: /^Paused: .* new, show them$/ });
  const pause = page.getByRole("button", { name: "Pause", exact: true });
  await rows.first().waitFor();
  await moves("events arrive");

  // It pauses while the pointer is on it, and catches up after that.
  const place = await page.locator(".scroll").boundingBox();
  await page.mouse.move(place.x + 200, place.y + 100);
  await paused.waitFor();
  await stands();
  await page.mouse.move(5, 5);
  await moves("it catches up");
  // While it is scrolled, until the reader wants to see what is new.
  await page.locator(".scroll").evaluate((element) => { element.scrollTop = 200; });
  await paused.waitFor();
  await stands();
  await paused.click();
  await pause.waitFor();
  await moves("it goes on");
  // And when it is told to.
  await pause.press("Enter");
  await page.mouse.move(5, 5);
  await paused.waitFor();
  await stands();
  await paused.press("Enter");
  await moves("it goes on again");

  // No event is shown twice, and what is held does not grow.
  await page.evaluate(() => {
    const seen = new Uint8Array(1_000_000);
    window.twice = 0;
    const note = (row) => {
      const [batch, number] = row.cells[1].textContent.split("-").map(Number);
      window.twice += seen[batch * 50 + number];
      seen[batch * 50 + number] = 1;
    };
    new MutationObserver((changes) => changes.forEach((change) => change.addedNodes.forEach(note))).observe(document.querySelector("tbody"), { childList: true });
  });
  const devtools = await context.newCDPSession(page);
  const samples = [];
  const begun = Date.now();
  for (let sample = 0; sample < 12; sample += 1) {
    await new Promise((resolve) => setTimeout(resolve, SECONDS * 1_000 / 12));
    await devtools.send("HeapProfiler.collectGarbage");
    samples.push({ at: (Date.now() - begun) / 1_000, bytes: (await devtools.send("Runtime.getHeapUsage")).usedSize });
  }
  const grown = growth(samples);
  console.log(`heap in ${SECONDS} s of a live list: ${samples.map(({ bytes }) => (bytes / 1e6).toFixed(1)).join(", ")} MB`);
  assert.ok(grown * Math.max(SECONDS, 20) < GROWN_BYTES_MAX, `${grown} bytes more each second: ${JSON.stringify(samples)}`);
  assert.ok(await rows.count() <= 200);
  assert.equal(await page.evaluate(() => window.twice), 0);
  // All that were sent were shown or counted.
  const sent = Number(await please("stop"));
  await page.getByText(`${sent.toLocaleString("en-GB")} since this page began`).waitFor();
  console.log(`${sent} events were sent, and all were shown or counted`);
}));
