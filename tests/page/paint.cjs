// How soon something is to be seen on a processor that is slowed four times.

const { browse, open, run } = require("./browser.cjs");

run(() => browse(async (page, context) => {
  const devtools = await context.newCDPSession(page);
  await devtools.send("Emulation.setCPUThrottlingRate", { rate: 4 });
  await open(page);
  await page.getByText("Ready: events are taken.").waitFor();
  const [paint, content] = await page.evaluate(() => ["first-paint", "first-contentful-paint"].map((name) => performance.getEntriesByName(name)[0]?.startTime));
  console.log(`first paint after ${Math.round(paint)} ms, first content after ${Math.round(content)} ms, at a quarter of the processor's speed`);
}));
