// A browser for one test: Debian's Chromium, with a profile that is new and empty. Whatever the page
// asks of another host, and whatever it says on the console, is a failure.

const assert = require("node:assert/strict");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { execFileSync } = require("node:child_process");
const { chromium } = require("playwright-core");

const url = process.env.SEKALI_URL;
const AXE = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"];

/** Runs `act` with a page; options are those of a context. `expected` are things that the console may say. */
async function browse(act, { expected = [], ...options } = {}) {
  const profile = fs.mkdtempSync(path.join(process.env.SEKALI_DIR ?? os.tmpdir(), "profile-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS, locale: "en-GB", timezoneId: "Asia/Jakarta",
    viewport: { width: 1200, height: 800 }, acceptDownloads: true, ...options,
  });
  const faults = [];
  context.on("request", (request) => {
    const asked = new URL(request.url());
    if (!["data:", "blob:"].includes(asked.protocol) && asked.origin !== url) faults.push(`asked of another host: ${asked}`);
  });
  context.on("console", (message) => {
    const text = message.text();
    if (["error", "warning"].includes(message.type()) && !expected.some((part) => text.includes(part))) faults.push(`console: ${text}`);
  });
  context.on("weberror", (error) => faults.push(`not caught: ${error.error().stack}`));
  context.setDefaultTimeout(20_000);
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: url });
  try {
    const page = context.pages()[0] ?? await context.newPage();
    await act(page, context);
    assert.deepEqual(faults, []);
  } finally {
    await context.close();
    fs.rmSync(profile, { recursive: true, force: true });
  }
}

/** Has axe look at what is shown; it finds nothing. */
async function audited(page, what) {
  // Not by a script element, which the page does not allow.
  if (!await page.evaluate("typeof axe === 'object'")) await page.evaluate(AXE);
  const found = await page.evaluate(async () => (await axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })).violations
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("\n")}`));
  assert.deepEqual(found, [], what);
}

/** Opens a view, whose heading is then there. */
async function open(page, hash = "", heading = "Now") {
  await page.goto(`${url}/${hash}`);
  await page.getByRole("heading", { level: 1, name: heading }).waitFor();
}

/** Has the test do what the page can't, such as to end the service; its answer. */
async function please(what) {
  process.stdout.write(`please: ${what}\n`);
  if (!please.lines) please.lines = require("node:readline").createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  return (await please.lines.next()).value;
}

/** Waits until `ask` gives something true. */
async function until(ask, what) {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const given = await ask();
    if (given) return given;
    assert.ok(Date.now() < deadline, `never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** What shells answer to a command that was copied: those that people have. */
function shells(command, variables = {}) {
  const file = path.join(fs.mkdtempSync(path.join(process.env.SEKALI_DIR ?? os.tmpdir(), "command-")), "command");
  fs.writeFileSync(file, command);
  return ["sh", "bash"].map((shell) => execFileSync(shell, [file], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...variables } }));
}

/** What a button copies. */
async function copied(page, button) {
  await page.evaluate(() => navigator.clipboard.writeText(""));
  await button.click();
  return until(() => page.evaluate(() => navigator.clipboard.readText()), "something is copied");
}

/** Runs a test to its end, and says of a failure what it is. */
function run(test) {
  test().then(() => process.exit(0), (e) => {
    console.error(e);
    process.exit(1);
  });
}

module.exports = { assert, audited, browse, copied, open, please, run, shells, until, url };
