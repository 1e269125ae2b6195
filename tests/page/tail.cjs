// A live list at a thousand events a second.

const { assert, browse, open, run, until } = require("./browser.cjs");

const SECONDS = Number(process.env.SEKALI_PAGE_SECONDS ?? 6);

run(() => browse(async (page, context) => {
  await open(page, "#/events?live=1", "Events");
  await page.getByText("Live", { exact: true }).first().waitFor();
  const rows = page.locator("tbody tr");
  const first = () => rows.first().innerText();
  const before = await first();
  await until(async () => (await first()) !== before, "events arrive");

  // It pauses while the pointer is on it, and catches up after that.
  const place = await page.locator(".scroll").boundingBox();
  await page.mouse.move(place.x + 200, place.y + 100);
  await page.getByRole("button", { name: /^Paused: .* new, show them$/ }).waitFor();
  const held = await first();
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.equal(await first(), held);
  await page.mouse.move(5, 5);
  await until(async () => (await first()) !== held, "it catches up");
  // And while it is scrolled.
  await page.locator(".scroll").evaluate((element) => { element.scrollTop = 200; });
  await page.getByRole("button", { name: /^Paused: / }).click();
  await page.locator(".scroll").evaluate((element) => { element.scrollTop = 0; });

  // What is held does not grow.
  const devtools = await context.newCDPSession(page);
  const heap = async () => {
    await devtools.send("HeapProfiler.collectGarbage");
    return (await devtools.send("Runtime.getHeapUsage")).usedSize;
  };
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const begun = await heap();
  await new Promise((resolve) => setTimeout(resolve, SECONDS * 1_000));
  const ended = await heap();
  console.log(`heap after ${SECONDS} s of a live list: ${(begun / 1e6).toFixed(1)} MB, then ${(ended / 1e6).toFixed(1)} MB`);
  assert.ok(ended < begun + 4_000_000, `${begun} grew to ${ended}`);
  assert.ok(await rows.count() <= 200);
}));
