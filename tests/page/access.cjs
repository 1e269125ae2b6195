// Without a mouse, without eyes, on a phone, in the light and in the dark.

const { assert, browse, open, run, until } = require("./browser.cjs");
const fs = require("node:fs");

const AXE = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const VIEWS = [
  ["#/now", "Now"], ["#/topics", "Topics"], ["#/topic?name=orders.paid", "Topic orders.paid"], ["#/events", "Events"],
  ["#/duplicates", "Duplicates"], ["#/sources", "Sources"], ["#/consumers", "Consumers"], ["#/events?live=1", "Events"], ["#/events?topic=none", "Events of none"], ["#/event?topic=orders.paid&id=order-1", "Event order-1"],
  ["#/find?topic=orders.paid&id=order-1", "Find"], ["#/try", "Try"], ["#/topic?name=none", "Topic none"],
];

async function settled(page, hash, heading) {
  await open(page, hash, heading);
  await until(async () => await page.locator("[aria-busy]").count() === 0 && !(await page.locator("main").innerText()).includes("Loading…"), "it is loaded");
}

async function violations(page, what) {
  const found = await page.evaluate(async () => (await axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })).violations
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("\n")}`));
  assert.deepEqual(found, [], what);
}

const inTheme = (colorScheme) => browse(async (page, context) => {
  await page.emulateMedia({ colorScheme });
  // Not by a script element, which the page does not allow.
  await context.addInitScript(AXE);
  for (const [hash, heading] of VIEWS) {
    await settled(page, hash, heading);
    await violations(page, `${hash}, ${colorScheme}`);
  }
  await page.getByRole("button", { name: "Theme: auto" }).click();
  await page.getByRole("button", { name: "Theme: light" }).click();
  assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme), "dark");
  await page.reload();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
});

const byKeyboard = () => browse(async (page) => {
  await open(page);
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent ?? "");
  const tabTo = async (name) => {
    for (let presses = 0; presses < 40; presses += 1) {
      await page.keyboard.press("Tab");
      if ((await focused()).startsWith(name)) {
        const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
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
});

const onAPhone = () => browse(async (page) => {
  await page.emulateMedia({ reducedMotion: "reduce" });
  for (const [hash, heading] of VIEWS) {
    await settled(page, hash, heading);
    const [inner, all] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
    assert.ok(all <= inner, `${hash} is ${all} wide in ${inner}`);
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
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
