// Without a mouse, without eyes, on a phone, in the light and in the dark.

const { assert, audited, browse, open, run, until } = require("./browser.cjs");
const VIEWS = [
  ["#/now", "Now"], ["#/topics", "Topics"], ["#/topic?name=orders.paid", "Topic orders.paid"], ["#/events", "Events"],
  ["#/duplicates", "Duplicates"], ["#/sources", "Sources"], ["#/consumers", "Consumers"], ["#/events?live=1", "Events"], ["#/events?topic=none", "Events of none"], ["#/event?topic=orders.paid&id=order-1", "Event order-1"],
  ["#/find?topic=orders.paid&id=order-1", "Find"], ["#/try", "Try"], ["#/topic?name=none", "Topic none"],
];

async function settled(page, hash, heading) {
  await open(page, hash, heading);
  await until(async () => await page.locator("[aria-busy]").count() === 0 && !(await page.locator("main").innerText()).includes("Loading…"), "it is loaded");
}

const inTheme = (colorScheme) => browse(async (page) => {
  await page.emulateMedia({ colorScheme });
  for (const [hash, heading] of VIEWS) {
    await settled(page, hash, heading);
    await audited(page, `${hash}, ${colorScheme}`);
  }
  await page.getByRole("button", { name: "Theme: auto" }).click();
  await page.getByRole("button", { name: "Theme: light" }).click();
  assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme), "dark");
  await page.reload();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
});

const byKeyboard = () => browse(async (page) => {
  await open(page);
  // Both as of one moment: a view that is made meanwhile moves the focus to its heading, which no key gets to.
  const focus = () => page.evaluate(() => {
    const { activeElement: element } = document;
    const name = element?.labels?.[0]?.innerText ?? element?.getAttribute("aria-label") ?? element?.textContent ?? "";
    return { name, isReached: element?.tabIndex >= 0, outline: getComputedStyle(element ?? document.body).outlineStyle };
  });
  const focused = async () => (await focus()).name;
  const tabTo = async (name) => {
    for (let presses = 0; presses < 80; presses += 1) {
      await page.keyboard.press("Tab");
      const { name: reached, isReached, outline } = await focus();
      if (isReached && reached.startsWith(name)) {
        assert.notEqual(outline, "none", `${name} shows that it has the focus`);
        return;
      }
    }
    assert.fail(`the keyboard never gets to ${name}`);
  };
  await tabTo("Skip to the content");
  await page.keyboard.press("Enter");
  await tabTo("Events a second");
  await page.keyboard.press("ArrowLeft");
  await page.getByRole("img", { name: /^Events a second, 1 seconds ago/ }).waitFor();
  await page.reload();
  await tabTo("Topics");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Topics" }).waitFor();
  assert.equal(await focused(), "Topics", "the heading of a new view has the focus");
  await page.getByText("3 topics").waitFor();
  await tabTo("orders.paid");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Topic orders.paid" }).waitFor();
  await page.getByRole("heading", { name: "Latest events" }).waitFor();
  await tabTo("order-119");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Event order-119" }).waitFor();
  await page.goto(page.url().replace(/#.*/, "#/try"));
  await page.getByRole("heading", { level: 1, name: "Try" }).waitFor();
  await tabTo("Publish it twice");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Second: duplicate" }).waitFor();

  const visit = async (name) => {
    await page.reload();
    await page.getByRole("heading", { level: 1 }).waitFor();
    await tabTo(name);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name }).waitFor();
  };
  await visit("Now");
  await tabTo("Pause");
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "Paused, go on");
  await page.keyboard.press("Enter");
  await visit("Topics");
  await page.getByText("4 topics").waitFor();
  await tabTo("Stored");
  await page.keyboard.press("Enter");
  await page.getByRole("columnheader", { name: "Stored" }).and(page.locator("[aria-sort=descending]")).waitFor();
  assert.equal(await focused(), "Stored");

  await visit("Events");
  await tabTo("Topic");
  await page.keyboard.type("orders.paid");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Events of orders.paid" }).waitFor();
  await tabTo("Order");
  await page.keyboard.press("ArrowDown");
  await until(async () => page.url().includes("order=asc"), "the oldest first");
  await tabTo("Live");
  await page.keyboard.press("Space");
  await until(async () => page.url().includes("live=1"), "it is live");
  await page.getByText("Live", { exact: true }).first().waitFor();
  await tabTo("Download as NDJSON");
  await Promise.all([page.waitForEvent("download"), page.keyboard.press("Enter")]);
  await tabTo("Pause");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Paused, go on" }).waitFor();

  await visit("Find");
  await tabTo("Topic");
  await page.keyboard.type("orders.paid");
  await tabTo("Event id");
  await page.keyboard.type("order-7");
  await page.keyboard.press("Enter");
  await page.getByText("Stored", { exact: true }).waitFor();

  await visit("Consumers");
  await page.getByText("Move it to another place").waitFor();
  await tabTo("Move it to another place");
  await page.keyboard.press("Enter");
  await tabTo("Move to");
  await page.keyboard.press("ArrowDown");
  await tabTo("Move…");
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "Move it", "what is asked has the focus");
  await page.keyboard.press("Enter");
  await until(async () => /Lag\s*0 events/.test(await page.getByLabel("Consumer billing").innerText()), "it is moved");
  assert.equal(await focused(), "Consumers", "the focus is not lost");

  // Times in UTC, without a pointer that hovers.
  await visit("Topics");
  await page.getByText("orders.paid").click();
  const time = page.getByLabel("Figures").locator("time").last();
  await time.waitFor();
  const at = (await time.getAttribute("datetime")).slice(11, 19);
  assert.ok(!(await time.innerText()).includes(at), "it is told in the reader's zone");
  await tabTo("Times: local");
  await page.keyboard.press("Enter");
  await until(async () => (await time.innerText()).includes(at), "it is told in UTC");
  await page.reload();
  await page.getByRole("button", { name: "Times: UTC" }).waitFor();
  await until(async () => (await time.innerText()).includes(at), "it stays so");
});

const onAPhone = () => browse(async (page) => {
  await page.emulateMedia({ reducedMotion: "reduce" });
  for (const [hash, heading] of VIEWS) {
    await settled(page, hash, heading);
    const [inner, all] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
    assert.ok(all <= inner, `${hash} is ${all} wide in ${inner}`);
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
    await audited(page, `${hash} on a phone`);
  }
  // What is touched is large enough, but for links within text.
  await settled(page, "#/now", "Now");
  for (const box of await page.getByRole("button").or(page.getByRole("navigation").getByRole("link")).evaluateAll((found) =>
    found.filter((element) => element.checkVisibility()).map((element) => ({ name: element.textContent, ...element.getBoundingClientRect().toJSON() })))) {
    assert.ok(box.height >= 24 && box.width >= 24, `${box.name} is ${box.width} by ${box.height}`);
  }
}, { viewport: { width: 320, height: 640 } });

run(async () => {
  await inTheme("light");
  await inTheme("dark");
  await byKeyboard();
  await onAPhone();
});
