// Drives one Chromium for tests and benchmarks: a line of JSON asks, a line of JSON answers.
//
//   node browser_driver.mjs OPTIONS        what Playwright's `launch` takes, as JSON

import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const PATIENCE_MS = 300_000; // nothing but a hang takes so long, on any machine

const { chromium } = createRequire(new URL("../../clients/web/package.json", import.meta.url))("playwright-core");
// Its profile is an empty folder of its own.
const browser = await chromium.launch(JSON.parse(process.argv[2]));
let page;
let complaints = [];
let requests = [];

const worker = async (part) => {
  for (;;) {
    const found = page.workers().find((one) => one.url().includes(part));
    if (found !== undefined) return found;
    await page.waitForEvent("worker");
  }
};

// The page's policy forbids what Playwright's own waiting does in it.
const until = async (js) => {
  const giveUp = Date.now() + PATIENCE_MS;
  while (!(await page.evaluate(js))) {
    if (Date.now() > giveUp)
      throw new Error(`it never came true: ${js}; the page says ${(await page.innerText("main")).replaceAll(/\s+/g, " ")}`);
    await page.waitForTimeout(50);
  }
};

// A page with storage, a cache and permissions of its own.
const fresh = async ({ context }) => {
  await page?.context().close();
  page = await (await browser.newContext(context)).newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  complaints = [];
  requests = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("request", (request) => requests.push(request.url()));
};

const does = {
  fresh,
  version: () => browser.version(),
  open: ({ url }) => page.goto(url),
  click: ({ on }) => page.click(on),
  press: ({ key }) => page.keyboard.press(key),
  fill: ({ on, text }) => page.fill(on, text),
  choose: ({ on, value }) => page.selectOption(on, value),
  text: ({ on }) => page.textContent(on),
  evaluate: ({ js }) => page.evaluate(js),
  inWorker: async ({ part, js }) => (await worker(part)).evaluate(js),
  until: ({ js }) => until(js),
  untilText: ({ on, has }) => until(`document.querySelector(${JSON.stringify(on)})?.textContent.includes(${JSON.stringify(has)})`),
  look: ({ width, height, dark }) =>
    Promise.all([page.setViewportSize({ width, height }), page.emulateMedia({ colorScheme: dark ? "dark" : "light" })]),
  picture: ({ path }) => page.screenshot({ path, fullPage: true }),
  beforeScripts: ({ js }) => page.addInitScript(js),
  complaints: () => complaints,
  requests: () => requests,
  tree: async () => await page.locator("body").ariaSnapshot(),
};

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const { verb, ...rest } = JSON.parse(line);
  try {
    const value = await does[verb](rest);
    console.log(
      JSON.stringify({
        value: verb === "open" || verb.startsWith("until") || value === undefined || Buffer.isBuffer(value) ? null : value,
      }),
    );
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
await browser.close();
