// Ten thousand topics: those in view are there, the others are not, and all can be reached.

const { assert, browse, open, run, until } = require("./browser.cjs");

run(() => browse(async (page) => {
  await open(page, "#/topics", "Topics");
  await page.getByText("10,000 topics").waitFor();
  const rows = page.locator(".rows-body [role=row]");
  const scroller = page.getByRole("region", { name: "Topics, scrolls" });
  assert.ok(await rows.count() < 100, "few rows are there");
  assert.equal(await page.getByRole("table", { name: "Topics" }).getAttribute("aria-rowcount"), "10001");
  await page.getByText("topic.00000").waitFor();
  // From end to end: whatever is in view is there.
  for (const share of [0.25, 0.5, 0.75, 1]) {
    await scroller.evaluate((element, share) => { element.scrollTop = element.scrollHeight * share; }, share);
    const number = share === 1 ? 9_999 : 10_000 * share;
    await page.getByText(`topic.${String(number).padStart(5, "0")}`).waitFor();
  }
  assert.ok(await rows.count() < 100);
  const longest = await page.evaluate(async () => {
    // How long the page is busy at once while it is scrolled by keyboard and filtered.
    let longest = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => { longest = Math.max(longest, entry.duration); }))
      .observe({ type: "longtask", buffered: false });
    const scroller = document.querySelector(".rows");
    for (let at = 0; at < 340_000; at += 5_000) {
      scroller.scrollTop = at;
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
    return longest;
  });
  console.log(`longest task while scrolling 10,000 topics: ${longest} ms`);
  await page.getByLabel("Filter").pressSequentially("0042");
  await page.getByText("11 of 10,000 topics").waitFor();
  await page.getByLabel("Filter").fill("");
  await page.getByRole("button", { name: "Topic", exact: true }).click();
  await until(async () => (await rows.first().innerText()).startsWith("topic.09999"), "sorted");
  await page.getByRole("link", { name: "topic.09999" }).click();
  await page.getByRole("heading", { level: 1, name: "Topic topic.09999" }).waitFor();
}));
