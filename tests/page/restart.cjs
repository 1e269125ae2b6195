// The service is killed under an open page, and comes back.

const { assert, browse, open, please, run, until } = require("./browser.cjs");

run(() => browse(async (page, context) => {
  const watch = await context.newPage();
  await open(watch);
  await watch.getByText("Ready: events are taken.").waitFor();
  await open(page, "#/events?topic=live&live=1", "Events of live");
  await page.getByText("Live", { exact: true }).first().waitFor();
  const ids = async () => (await page.locator("tbody tr td:nth-child(2)").allInnerTexts()).reverse();
  const sent = [];
  const publish = async () => {
    sent.push(await please("publish"));
    await until(async () => (await ids()).includes(sent.at(-1)), `${sent.at(-1)} is shown`);
  };
  for (let number = 0; number < 3; number += 1) await publish();
  for (let round = 0; round < 2; round += 1) {
    await please("kill");
    await watch.getByText("What is shown is old; this page tries again by itself.").waitFor();
    await page.getByText("Disconnected; this page tries again").waitFor();
    await until(async () => (await watch.title()).startsWith("○"), "the title says so");
    await please("start");
    // Before the page is back, too.
    sent.push(await please("publish"));
    await watch.getByText("Ready: events are taken.").waitFor();
    await until(async () => (await ids()).includes(sent.at(-1)), "what was missed");
    await publish();
  }
  assert.deepEqual(await ids(), sent, "nothing is lost, and nothing is there twice");
}, { expected: ["net::ERR_", "Failed to load resource"] }));
