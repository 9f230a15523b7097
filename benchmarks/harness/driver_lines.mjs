// What the drivers of browsers have in common: a line of JSON asks, a line of JSON answers; and waiting for what a page shows.

import { createInterface } from "node:readline";

export const PATIENCE_MS = 300_000; // nothing but a hang takes so long, on any machine

/** Verbs that wait, by looking at the page again and again; `evaluate` runs a script in it. */
export function waiting(evaluate) {
  const until = async (js) => {
    const giveUp = Date.now() + PATIENCE_MS;
    while (!(await evaluate(js))) {
      if (Date.now() > giveUp) {
        const says = await evaluate("document.querySelector('main').innerText");
        throw new Error(`it never came true: ${js}; the page says ${says.replaceAll(/\s+/g, " ")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  return {
    until: ({ js }) => until(js),
    untilText: ({ on, has }) => until(`document.querySelector(${JSON.stringify(on)})?.textContent.includes(${JSON.stringify(has)}) ?? false`),
  };
}

/** Do what each line asks for, one after the other, until there are no more. */
export async function answer(does) {
  console.log(JSON.stringify({ ready: true }));
  for await (const line of createInterface({ input: process.stdin })) {
    const { verb, ...rest } = JSON.parse(line);
    try {
      console.log(JSON.stringify({ value: (await does[verb](rest)) ?? null }));
    } catch (error) {
      console.log(JSON.stringify({ error: String(error) }));
    }
  }
}
