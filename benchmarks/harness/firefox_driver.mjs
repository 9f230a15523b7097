// Drives one Firefox for the tests, by WebDriver BiDi: a line of JSON asks, a line of JSON answers.
//
//   node firefox_driver.mjs FIREFOX PROFILE

import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { answer, waiting } from "./driver_lines.mjs";

const [program, profile] = process.argv.slice(2);
const settings = { "media.autoplay.default": 0, "app.update.enabled": false, "datareporting.policy.dataSubmissionEnabled": false };
writeFileSync(join(profile, "user.js"), Object.entries(settings).map(([name, value]) => `user_pref("${name}", ${value});\n`).join(""));
const options = ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port=0", "about:blank"];
const firefox = spawn(program, options, { env: { ...process.env, HOME: profile }, stdio: ["ignore", "ignore", "pipe"] });
const address = await new Promise((resolve, reject) => {
  let said = "";
  firefox.stderr.on("data", (data) => {
    said += data;
    const found = /WebDriver BiDi listening on (ws:\/\/\S+)/.exec(said);
    if (found) resolve(found[1]);
  });
  firefox.on("exit", () => reject(new Error(`Firefox has ended: ${said}`)));
});
const socket = new WebSocket(`${address}/session`);
await new Promise((resolve, reject) => {
  socket.onopen = resolve;
  socket.onerror = () => reject(new Error(`${address} does not answer`));
});

const complaints = [];
const waitingFor = new Map();
socket.onmessage = ({ data }) => {
  const { id, type, method, params, result, message } = JSON.parse(data);
  if (method === "log.entryAdded" && params.level === "error") complaints.push(params.text);
  const [resolve, reject] = waitingFor.get(id) ?? [];
  waitingFor.delete(id);
  if (type === "error") reject?.(new Error(message));
  else resolve?.(result);
};
let asked = 0;
const ask = (method, params = {}) =>
  new Promise((resolve, reject) => {
    waitingFor.set(++asked, [resolve, reject]);
    socket.send(JSON.stringify({ id: asked, method, params }));
  });

await ask("session.new", { capabilities: {} });
await ask("session.subscribe", { events: ["log.entryAdded"] });
const [{ context }] = (await ask("browsingContext.getTree")).contexts;

const run = async (js, target) => {
  const script = { expression: `(async () => JSON.stringify((await (${js})) ?? null))()`, target, awaitPromise: true, userActivation: true };
  const { type, result, exceptionDetails } = await ask("script.evaluate", script);
  if (type === "exception") throw new Error(exceptionDetails.text);
  return JSON.parse(result.value);
};
const evaluate = (js) => run(js, { context });

await answer({
  ...waiting(evaluate),
  open: async ({ url }) => void (await ask("browsingContext.navigate", { context, url, wait: "complete" })),
  click: ({ on }) => evaluate(`void document.querySelector(${JSON.stringify(on)}).click()`),
  text: ({ on }) => evaluate(`document.querySelector(${JSON.stringify(on)}).textContent`),
  evaluate: ({ js }) => evaluate(js),
  complaints: () => complaints,
});
firefox.removeAllListeners("exit");
firefox.kill();
