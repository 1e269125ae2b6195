// Pictures of each view, for the documentation.

const { browse, open, run, until } = require("./browser.cjs");
const path = require("node:path");

const FOLDER = path.join(__dirname, "../../docs/images");

run(async () => {
  for (const colorScheme of ["light", "dark"]) {
    await browse(async (page) => {
      await page.emulateMedia({ colorScheme });
      await open(page);
      await page.getByText("Ready: events are taken.").waitFor();
      // Something to be seen in the charts.
      await new Promise((resolve) => setTimeout(resolve, Number(process.env.SEKALI_PAGE_SECONDS ?? 60) * (colorScheme === "light" ? 1_000 : 100)));
      const take = async (name) => page.screenshot({ path: path.join(FOLDER, `page-${name}${colorScheme === "dark" ? "-dark" : ""}.png`) });
      await take("now");
      if (colorScheme === "dark") return;
      for (const [name, hash, heading] of [
        ["topics", "#/topics", "Topics"], ["topic", "#/topic?name=orders.paid", "Topic orders.paid"], ["events", "#/events?live=1", "Events"],
        ["event", "#/event?topic=orders.paid&id=order-119", "Event order-119"], ["duplicates", "#/duplicates", "Duplicates"], ["sources", "#/sources", "Sources"], ["consumers", "#/consumers", "Consumers"], ["find", "#/find?topic=orders.paid&id=order-7", "Find"], ["try", "#/try", "Try"],
      ]) {
        await open(page, hash, heading);
        if (name === "try") await page.getByRole("button", { name: "Publish it twice" }).click();
        if (name === "topics") await until(async () => (await page.locator("main").innerText()).includes("/s"), "a rate");
        await until(async () => await page.locator("[aria-busy]").count() === 0, "it is loaded");
        await new Promise((resolve) => setTimeout(resolve, 600));
        await take(name);
      }
    }, { viewport: { width: 1100, height: 760 } });
  }
});
