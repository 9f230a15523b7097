// Drives one Chromium for tests and benchmarks: a line of JSON asks, a line of JSON answers.
//
//   node browser_driver.mjs OPTIONS        what Playwright's `launch` takes, as JSON

import { createRequire } from "node:module";
import { PATIENCE_MS, answer, waiting } from "./driver_lines.mjs";

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

await answer({
  // The page's policy forbids what Playwright's own waiting does in it.
  ...waiting((js) => page.evaluate(js)),
  fresh,
  version: () => browser.version(),
  open: async ({ url }) => void (await page.goto(url)),
  click: ({ on }) => page.click(on),
  press: ({ key }) => page.keyboard.press(key),
  fill: ({ on, text }) => page.fill(on, text),
  choose: ({ on, value }) => page.selectOption(on, value),
  text: ({ on }) => page.textContent(on),
  evaluate: ({ js }) => page.evaluate(js),
  inWorker: async ({ part, js }) => (await worker(part)).evaluate(js),
  look: async ({ width, height, dark }) => {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: dark ? "dark" : "light" });
  },
  picture: async ({ path }) => void (await page.screenshot({ path, fullPage: true })),
  beforeScripts: ({ js }) => page.addInitScript(js),
  complaints: () => complaints,
  forget: ({ about }) => (complaints = complaints.filter((one) => !about.some((word) => one.includes(word)))),
  requests: () => requests,
  tree: async () => await page.locator("body").ariaSnapshot(),
});
await browser.close();
