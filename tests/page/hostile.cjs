// Names and payloads that would be something else than text, if a page let them.

const { assert, browse, copied, open, run, shells, until } = require("./browser.cjs");

const MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>";
const TURNED = "a\u202eb\u200bc";

run(() => browse(async (page) => {
  let dialogs = 0;
  page.on("dialog", (dialog) => {
    dialogs += 1;
    return dialog.dismiss();
  });
  const shown = async (hash, heading) => {
    await open(page, hash, heading);
    await page.getByText(MARKUP).first().waitFor();
    assert.equal(await page.locator("main img, main script").count(), 0);
  };
  await shown("#/topics", "Topics");
  await page.getByText("a\\u{202e}b\\u{200b}c").waitFor();
  assert.ok(!(await page.locator("main").innerText()).includes("\u202e"), "no character that turns the text");
  await page.getByText("x\\u{34f}y").click();
  await page.getByRole("heading", { level: 1, name: "Topic x\\u{34f}y" }).waitFor();
  await until(async () => /Mean payload\s*8\sB/.test(await page.getByLabel("Figures").innerText()), "bytes, not characters");
  await shown("#/events", "Events");
  const query = (topic, id) => `topic=${encodeURIComponent(topic)}&id=${encodeURIComponent(id)}`;
  await shown(`#/event?${query(MARKUP, MARKUP)}`, `Event ${MARKUP}`);
  const tree = await page.locator(".tree").innerText();
  assert.ok(tree.includes("\\u{1b}[31mred") && tree.includes("\\u{0}") && tree.includes("\\u{202e}"), tree);
  await page.getByText("Raw").click();
  assert.ok((await page.getByLabel("Payload as it was written").innerText()).includes("\\u001b[31m"));
  await shown(`#/find?${query(MARKUP, "x")}`, "Find").catch(() => {});
  await page.getByText("Never seen", { exact: true }).waitFor();

  // Any name leads to its event: by its link, and by its address.
  for (const topic of [TURNED, "../..", "a/b?c#d%2f&e=f", "y".repeat(255)]) {
    await open(page, `#/topic?name=${encodeURIComponent(topic)}`, /^Topic /);
    await page.getByRole("table", { name: "Events" }).getByRole("link").click();
    await page.getByRole("heading", { level: 1, name: /^Event / }).waitFor();
    await page.getByText("Offset").waitFor();
    assert.ok(!(await page.title()).includes("\u202e"));
  }

  // A command that is copied shows no hidden character, and sends the same event again, byte for byte.
  for (const [topic, id] of [[MARKUP, MARKUP], [TURNED, TURNED], ["a/b?c#d%2f&e=f", "a/b?c#d%2f&e=f"], ["large", "long"], ["large", "deep"], ["laid out", "1"]]) {
    await open(page, `#/event?${query(topic, id)}`, /^Event /);
    const command = await copied(page, page.getByRole("button", { name: "Copy as curl" }));
    assert.doesNotMatch(command, /[\p{Cc}\p{Cf}]/u);
    for (const answer of shells(command)) assert.equal(JSON.parse(answer).results[0].status, "duplicate", answer);
  }

  // A megabyte is shown in part, and then whole, and the page goes on.
  await open(page, "#/event?topic=large&id=long", "Event long");
  await page.getByRole("button", { name: /show all 1,048,568 characters/ }).click();
  assert.equal((await page.locator(".tree .foreign").textContent()).length, (1 << 20) - 8);
  await open(page, "#/event?topic=large&id=wide", "Event wide");
  await page.getByRole("button", { name: "show more of 200,001" }).click();
  assert.equal(await page.locator(".tree .leaf").count(), 200);
  await open(page, "#/event?topic=large&id=deep", "Event deep");
  for (let level = 3; level < 63; level += 1) await page.locator("details:not([open]) > summary").last().click();
  // What an opened level has comes a little later.
  await until(async () => /0: 1$/.test(await page.locator(".tree").innerText()), "the innermost value");
  await open(page, "#/events?topic=large", "Events of large");
  await until(async () => await page.getByRole("table", { name: "Events" }).getByRole("row").count() === 4, "three events");
  assert.ok((await page.locator("main").innerText()).length < 3_000);
  assert.equal(dialogs, 0);
}));
