// A service that asks who its readers are.

const { assert, browse, copied, open, run, shells, until } = require("./browser.cjs");
const { ADMIN, READER } = process.env;

run(() => browse(async (page) => {
  await open(page);
  const dialog = page.getByRole("dialog", { name: "Token" });
  const enter = async (token) => {
    await dialog.getByRole("textbox", { name: "Token" }).fill(token);
    await dialog.getByRole("button", { name: "Use this token" }).click();
  };
  // By keyboard alone: the field has the focus, and Enter uses what is typed.
  await page.keyboard.type("sekali_wrong");
  await page.keyboard.press("Enter");
  await dialog.getByText("The token of this tab is not taken").waitFor();
  await enter(READER);
  // It may read some topics, and not the figures of the service.
  await page.getByRole("alert").getByText("it needs the scope metrics").waitFor();
  await page.getByRole("heading", { name: "What you may read" }).waitFor();
  await page.getByRole("link", { name: "Topics" }).click();
  await page.getByText("1 topic", { exact: true }).waitFor();
  await open(page, "#/topic?name=secret", "Topic secret");
  await page.getByRole("alert").getByText("it needs a scope read:TOPICS that fits").waitFor();
  await open(page, "#/sources", "Sources");
  await page.getByRole("alert").getByText("it needs the scope metrics").waitFor();
  await open(page, "#/consumers", "Consumers");
  await page.getByRole("alert").getByText("it needs a scope consume:TOPICS that fits").waitFor();
  await open(page, "#/try", "Try");
  await page.getByRole("button", { name: "Publish it twice" }).click();
  await page.getByRole("alert").getByText("publish").waitFor();
  await page.getByRole("button", { name: "Use another token" }).click();
  await enter(ADMIN);
  await page.getByRole("button", { name: "Publish it twice" }).click();
  await page.getByRole("heading", { name: "Second: duplicate" }).waitFor();
  // The command has the place of a token, and not the token.
  const command = await copied(page, page.getByRole("button", { name: "Copy as curl" }));
  assert.ok(command.includes(' -H "authorization: Bearer $SEKALI_TOKEN"') && !command.includes("sekali_"), command);
  for (const answer of shells(command, { SEKALI_TOKEN: ADMIN })) assert.equal(JSON.parse(answer).results[0].status, "duplicate", answer);
  await open(page, "#/consumers", "Consumers");
  await page.getByRole("region", { name: "Consumer billing" }).waitFor();
  await page.getByRole("link", { name: "Now" }).click();
  await page.getByText("Ready: events are taken.").waitFor();
  await page.reload();
  await page.getByText("Ready: events are taken.").waitFor();
  // It is in no address and in no storage that outlives the tab.
  assert.ok(!page.url().includes("sekali_"));
  assert.equal(await page.evaluate(() => JSON.stringify(localStorage) + document.cookie), "{}");
  await open(page, "#/events?live=1", "Events");
  await page.getByText("Live", { exact: true }).first().waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await dialog.waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await page.keyboard.press("Escape");
  await page.getByRole("alert").getByText("A token is needed").waitFor();
  await page.getByRole("button", { name: "Enter a token" }).click();
  await enter(ADMIN);
  await until(async () => (await page.locator("tbody tr").count()) > 0, "events are there again");
}, { expected: ["Failed to load resource"] }));
