// Something is to be seen before the service has said anything but its files. How soon, on a processor that
// is slowed four times, is told.

const { assert, browse, open, run, url } = require("./browser.cjs");

run(async () => {
  await browse(async (page) => {
    const asked = new Set();
    await page.route("**", (route) => {
      const request = route.request();
      if (!["fetch", "xhr", "eventsource"].includes(request.resourceType())) return route.continue();
      asked.add(new URL(request.url()).pathname);
      return undefined;
    });
    await page.goto(`${url}/`);
    await page.getByRole("heading", { level: 1, name: "Now" }).waitFor();
    await page.getByRole("navigation").first().waitFor();
    assert.ok(asked.size > 0, "figures are asked for");
  });
  await browse(async (page, context) => {
    const devtools = await context.newCDPSession(page);
    await devtools.send("Emulation.setCPUThrottlingRate", { rate: 4 });
    await open(page);
    await page.getByText("Ready: events are taken.").waitFor();
    const content = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime);
    console.log(`first content after ${Math.round(content)} ms, at a quarter of the processor's speed`);
  });
});
