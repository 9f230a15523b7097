// ONNX Runtime in a worker: WebAssembly, one thread. And the model that the server offers.

import * as ort from "onnxruntime-web/wasm";
import { ModelFiles, OnnxCodec, readManifest } from "../../codec/src/index.ts";

/** Where the page's parts are. */
export interface Places {
  readonly wasm: string;
  readonly model: string;
}

const ASK_EVERY_MS = 500;
const ASK_MOST = 60; // a server that has just started converts its model first

// The smallest module with an instruction of fixed-width SIMD.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

/** The codec of the server's model, without any of its weights yet; null where the server has none for the page. Rejects where this browser cannot run it. */
export async function openCodec(places: Places): Promise<OnnxCodec | null> {
  if (!WebAssembly.validate(new Uint8Array(SIMD))) {
    throw new Error("this browser has no WebAssembly SIMD; a current Firefox, Chrome, Edge or Safari has it");
  }
  let answer = await fetch(`${places.model}manifest.json`);
  for (let asked = 1; answer.status === 503 && asked < ASK_MOST; asked++) {
    await new Promise((resolve) => setTimeout(resolve, ASK_EVERY_MS));
    answer = await fetch(`${places.model}manifest.json`);
  }
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`the server does not give its model (HTTP status ${answer.status})`);
  const manifest = readManifest(await answer.json());
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { wasm: places.wasm };
  ort.env.logLevel = "error";
  void warm(places.wasm);
  return new OnnxCodec(manifest, new ModelFiles(`${places.model}${manifest.weights_fingerprint}/`, manifest), ort);
}

/** Fetch what will be needed soon into the browser's cache, beside the weights and not behind them. */
async function warm(url: string): Promise<void> {
  try {
    await (await fetch(url)).body?.pipeTo(new WritableStream());
  } catch {
    // Whoever needs it says what is wrong.
  }
}
