// Every view, by the roles and names of what is on it.

const { assert, browse, open, run, shells, until, url } = require("./browser.cjs");
const fs = require("node:fs");

run(() => browse(async (page) => {
  const asked = new Set();
  page.on("request", (request) => asked.add(new URL(request.url()).pathname));
  await open(page);
  assert.deepEqual(await page.getByRole("navigation", { name: "Views" }).getByRole("link").allTextContents(), ["Now", "Topics", "Events", "Duplicates", "Sources", "Consumers", "Find", "Try"]);
  await page.getByText("Ready: events are taken.").waitFor();
  const totals = page.getByLabel("Totals");
  await totals.getByText("Stored", { exact: true }).waitFor();
  await until(async () => /Stored131.*Duplicates dropped1 \(0.8%\).*Conflicts0.*Rejected0.*Topics3 of/s.test(await totals.innerText().then((text) => text.replaceAll("\n", ""))), "totals");
  const details = (await page.getByLabel("Details").innerText()).replaceAll("\n", " ");
  for (const name of ["Up for", "An answer means the event is on this machine’s disk", "Disk left", "Full in", "Checkpoint lag", "Generations", "Connections", "Version"]) {
    assert.ok(details.replaceAll("'", "’").includes(name), `${name} in ${details}`);
  }
  // What is measured less often comes soon.
  await until(async () => /Largest consumer lag 120 events, billing Webhooks refused \S+\/s; since the start 2 with a wrong signature, 1 without a signature /
    .test((await page.getByLabel("Details").innerText()).replaceAll("\n", " ")), "consumers and sources");
  // All of it comes by the one stream.
  assert.deepEqual([...asked].filter((path) => path !== "/" && !path.startsWith("/page/")), ["/live"]);
  await page.getByRole("img", { name: /^Events a second, now: stored/ }).waitFor();
  await page.getByRole("img", { name: /^Commit latency, now: p50/ }).waitFor();
  await until(async () => /^● .*\/s – sekali$/.test(await page.title()), "the title says the state");
  await page.getByText("1 hour").click();
  assert.match(page.url(), /#\/now\?range=hour$/);

  await page.getByRole("link", { name: "Topics" }).click();
  await page.getByRole("heading", { level: 1, name: "Topics" }).waitFor();
  await page.getByText("3 topics").waitFor();
  const topics = page.getByRole("table", { name: "Topics" });
  assert.equal(await topics.getByRole("row").count(), 4);
  await page.getByRole("button", { name: "Stored" }).click();
  assert.match(await topics.getByRole("row").nth(1).innerText(), /orders\.paid\s+120/);
  assert.equal(await topics.getByRole("columnheader", { name: "Stored" }).getAttribute("aria-sort"), "descending");
  await page.getByLabel("Filter").fill("SMALL");
  await page.getByText("1 of 3 topics").waitFor();
  assert.match(page.url(), /filter=SMALL&sort=-stored/);
  await page.reload();
  await page.getByText("1 of 3 topics").waitFor();
  await page.getByLabel("Filter").fill("");
  await topics.getByRole("link", { name: "orders.paid" }).click();

  await page.getByRole("heading", { level: 1, name: "Topic orders.paid" }).waitFor();
  const figures = page.getByLabel("Figures");
  assert.match((await figures.innerText()).replaceAll("\n", " "), /Stored 120 .*Duplicates dropped 1 \(0\.8%\) .*Conflicts 0 .*Offsets 0 to 119/);
  assert.match(await page.getByLabel("Sources, scrolls").innerText(), /checkout\s+60\s+50%/);
  assert.equal(await page.getByRole("table", { name: "Events" }).getByRole("row").count(), 21);
  await page.getByLabel("Sources, scrolls").getByRole("link", { name: "checkout" }).click();

  await page.getByRole("heading", { level: 1, name: "Events of orders.paid" }).waitFor();
  assert.equal(await page.getByLabel("Source", { exact: true }).inputValue(), "checkout");
  const rows = page.getByRole("table", { name: "Events" }).getByRole("row");
  assert.match(await rows.nth(1).innerText(), /order-118/);
  await page.getByRole("link", { name: "Next page" }).click();
  await page.getByText("No more.").waitFor();
  assert.equal(await rows.count(), 11);
  await page.goBack();
  await page.getByRole("link", { name: "Next page" }).waitFor();
  await page.getByLabel("Order").selectOption("oldest first");
  await until(async () => /order-0\b/.test(await rows.nth(1).innerText()), "the oldest first");
  await page.getByLabel("Source", { exact: true }).fill("nobody");
  await page.getByRole("button", { name: "Filter" }).click();
  await page.getByText("No event fits.").waitFor();

  await page.getByRole("link", { name: "Duplicates" }).click();
  assert.match(await page.getByRole("table", { name: "Senders" }).getByRole("row").nth(1).innerText(), /shop\s+orders\.paid\s+1\s+100%\s+0/);
  assert.match(await page.getByRole("table", { name: "Latest duplicates" }).getByRole("row").nth(1).innerText(), /orders\.paid\s+order-3\s+shop\s+duplicate/);

  await page.getByRole("link", { name: "Sources" }).click();
  await page.getByRole("heading", { level: 1, name: "Sources" }).waitFor();
  const source = page.getByRole("region", { name: "Source hooks" });
  await until(async () => /Delivers to \/in\/hooks Sender bearer Topics small\.things Quarantine none Taken 1 stored Refused 2 with a wrong signature, 1 without a signature Last refused .*: without a signature/
    .test((await source.innerText()).replaceAll(/\s+/g, " ")), "what became of its deliveries");

  // What went wrong last: a lease that ended, and an acknowledgement that came too late.
  await page.getByRole("link", { name: "Consumers" }).click();
  const error = async (name) => (await page.getByRole("region", { name: `Consumer ${name}` }).innerText()).replaceAll(/\s+/g, " ");
  await until(async () => {
    await page.getByRole("button", { name: "Refresh" }).click();
    return /Last error .*: the lease of worker-7 ended before its events were acknowledged/.test(await error("gone"));
  }, "the lease of one that is gone ends");
  assert.match(await error("late"), /Last error .*: an acknowledgement was refused, as its lease was over/);
  assert.match(await error("billing"), /Last error none/);

  // A consumer is moved once that is confirmed.
  const consumer = page.getByRole("region", { name: "Consumer billing" });
  assert.match((await consumer.innerText()).replaceAll("\n", " "), /Lag 120 events .*Reads orders\.\* /);
  await consumer.getByText("Move it to another place").click();
  await consumer.getByLabel("Move to").selectOption("after the last event");
  await consumer.getByRole("button", { name: "Move…" }).click();
  await consumer.getByRole("button", { name: "Move it", exact: true }).click();
  await until(async () => /Lag\s+0 events/.test(await consumer.innerText()), "it has moved");

  // A time as the reader's clock shows it, seven hours from UTC here, with UTC beside it.
  await open(page, "#/events?topic=orders.paid", "Events of orders.paid");
  const time = rows.nth(1).locator("time");
  const [told, at] = [await time.innerText(), new Date(await time.getAttribute("datetime"))];
  assert.ok(told.includes(String((at.getUTCHours() + 7) % 24).padStart(2, "0") + ":"), told);
  assert.match(await time.getAttribute("title"), / UTC$/);
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download as NDJSON" }).click()]);
  assert.equal(file.suggestedFilename(), "orders.paid.ndjson");
  const lines = fs.readFileSync(await file.path(), "utf8").trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual([lines.length, lines[0].event_id, lines[119].event_id], [120, "order-0", "order-119"]);

  await page.getByRole("link", { name: "order-119" }).click();
  await page.getByRole("heading", { level: 1, name: "Event order-119" }).waitFor();
  assert.match(await page.getByLabel("Fields").innerText(), /Offset\s*119/);
  assert.match(await page.getByLabel("Fields").innerText(), /Came again\s*never, as far as is remembered/);
  await page.getByText("Raw").click();
  assert.equal(await page.getByLabel("Payload as it was written").innerText(), '{"amount":119,"nested":{"list":[1,2,3]}}');

  await open(page, "#/event?topic=orders.paid&id=order-3", "Event order-3");
  await until(async () => /Came again\s*once since .*, as far as is remembered/.test(await page.getByLabel("Fields").innerText()), "how often it came again");

  // Numbers keep their digits, as a tree and as they were written.
  await open(page, "#/event?topic=exact&id=numbers", "Event numbers");
  const tree = await page.locator(".tree").innerText();
  for (const number of ["123456789012345678901234567890", "1.10", "1e-400", "-0", "9007199254740993"]) assert.ok(tree.includes(number), `${number} in ${tree}`);
  assert.ok(tree.indexOf("z:") < tree.indexOf("a:"), "members keep their order");
  await page.getByText("Raw").click();
  assert.ok((await page.getByLabel("Payload as it was written").innerText()).includes('"e":9007199254740993'));

  await page.getByRole("link", { name: "Find" }).click();
  await page.getByRole("textbox", { name: "Topic" }).fill("orders.paid");
  await page.getByRole("textbox", { name: "Event id" }).fill("order-7");
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByText("Stored", { exact: true }).waitFor();
  assert.match(page.url(), /#\/find\?topic=orders.paid&id=order-7$/);
  await page.getByRole("textbox", { name: "Event id" }).fill("order-7000");
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByText("Never seen", { exact: true }).waitFor();

  await page.getByRole("link", { name: "Try" }).click();
  await page.getByRole("textbox", { name: "Topic" }).fill("small.try");
  await page.getByRole("textbox", { name: "Payload (JSON)" }).fill('{"it\'s": 1.50}');
  const command = await page.getByLabel("The same as a command").innerText();
  await page.getByRole("button", { name: "Publish it twice" }).click();
  await page.getByRole("heading", { name: "First: stored" }).waitFor();
  await page.getByRole("heading", { name: "Second: duplicate" }).waitFor();
  // What the command sends is the same event.
  for (const again of shells(command)) assert.equal(JSON.parse(again).results[0].status, "duplicate", again);
  await page.getByLabel("First answer").getByRole("link", { name: "Open the event" }).click();
  await page.getByText("1.50").waitFor();

  // An address that is none leads to the first view, and one that names nothing says so.
  await open(page, "#/elsewhere");
  await open(page, "#/topic?name=nothing", "Topic nothing");
  await page.getByRole("alert").getByText("No event of this topic is stored.").waitFor();
  await open(page, "#/event?topic=a&id=b", "Event b");
  await page.getByText("Never seen").waitFor();
}).then(() => browse(async (page) => {
  // In another language's numbers.
  await open(page);
  await until(async () => /Duplicates dropped\s*\d+ \(\d,\d\s%\)/.test(await page.getByLabel("Totals").innerText()), "a share");
  await page.getByRole("img", { name: /^Events a second/ }).getByText("−2,5\u202fmin").waitFor();
  await open(page, "#/event?topic=orders.paid&id=order-119", "Event order-119");
  await page.getByText("First seen").waitFor();
}, { locale: "de-DE" })));
