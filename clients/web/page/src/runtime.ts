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

/** The codec of the server's model, without any of its weights yet; null where the server has none for the page. */
export async function openCodec(places: Places): Promise<OnnxCodec | null> {
  let answer = await fetch(`${places.model}manifest.json`);
  for (let asked = 1; answer.status === 503 && asked < ASK_MOST; asked++) {
    await new Promise((resolve) => setTimeout(resolve, ASK_EVERY_MS));
    answer = await fetch(`${places.model}manifest.json`);
  }
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`the model cannot be had: ${answer.status}`);
  const manifest = readManifest(await answer.json());
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { wasm: places.wasm };
  ort.env.logLevel = "error";
  return new OnnxCodec(manifest, new ModelFiles(`${places.model}${manifest.weights_fingerprint}/`, manifest), ort);
}
