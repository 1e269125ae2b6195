// Ten thousand topics: those in view are there, the others are not, and all can be reached.

const { assert, browse, open, run, until } = require("./browser.cjs");

/** Rows that are there at once: those in view, and some above and below. What is done takes the time of these. */
const ROWS_MAX = 100;

run(() => browse(async (page, context) => {
  await open(page, "#/topics", "Topics");
  await page.getByText("10,000 topics").waitFor();
  const rows = page.locator(".rows-body [role=row]");
  const scroller = page.getByRole("region", { name: "Topics, scrolls" });
  assert.ok(await rows.count() < ROWS_MAX, "few rows are there");
  assert.equal(await page.getByRole("table", { name: "Topics" }).getAttribute("aria-rowcount"), "10001");
  await page.getByText("topic.00000").waitFor();
  // From end to end: whatever is in view is there.
  for (const share of [0.25, 0.5, 0.75, 1]) {
    await scroller.evaluate((element, share) => { element.scrollTop = element.scrollHeight * share; }, share);
    const number = share === 1 ? 9_999 : 10_000 * share;
    await page.getByText(`topic.${String(number).padStart(5, "0")}`).waitFor();
  }
  assert.ok(await rows.count() < ROWS_MAX);
  // No more are made at once while it is scrolled, filtered and sorted. How long a slow processor is busy
  // with it is told.
  const devtools = await context.newCDPSession(page);
  await devtools.send("Emulation.setCPUThrottlingRate", { rate: 4 });
  const measured = async (act) => {
    await page.evaluate(() => {
      [window.longest, window.most] = [0, 0];
      window.counting = new MutationObserver(() => { window.most = Math.max(window.most, document.querySelectorAll(".rows-body [role=row]").length); });
      window.counting.observe(document.body, { childList: true, subtree: true });
      window.watching = new PerformanceObserver((list) => list.getEntries().forEach((entry) => { window.longest = Math.max(window.longest, entry.duration); }));
      window.watching.observe({ type: "longtask" });
    });
    await act();
    return page.evaluate(() => new Promise((resolve) => setTimeout(() => {
      window.counting.disconnect();
      window.watching.disconnect();
      resolve([window.longest, window.most]);
    }, 200)));
  };
  const busy = async (what, act) => {
    const [longest, most] = await measured(act);
    console.log(`longest task while ${what}: ${longest} ms; rows at most: ${most}`);
    assert.ok(most > 0 && most < ROWS_MAX, `${most} rows are there while ${what}`);
  };
  await busy("scrolling", () => page.evaluate(async () => {
    const scroller = document.querySelector(".rows");
    for (let at = 0; at < 340_000; at += 5_000) {
      scroller.scrollTop = at;
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
  }));
  await busy("filtering", async () => {
    await page.getByLabel("Filter").pressSequentially("0042");
    await page.getByText("11 of 10,000 topics").waitFor();
    await page.getByLabel("Filter").fill("");
  });
  await busy("sorting", async () => {
    for (const name of ["Stored", "Last event", "Duplicates"]) await page.getByRole("button", { name, exact: true }).click();
    const topic = page.getByRole("button", { name: "Topic", exact: true });
    await topic.click();
    await until(async () => (await rows.first().innerText()).startsWith("topic.00000"), "sorted");
    await topic.click();
    await until(async () => (await rows.first().innerText()).startsWith("topic.09999"), "sorted the other way");
  });
  await page.getByRole("link", { name: "topic.09999" }).click();
  await page.getByRole("heading", { level: 1, name: "Topic topic.09999" }).waitFor();
}));
