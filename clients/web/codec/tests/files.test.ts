// A model's files: fetched once, checked, with progress.

import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { ModelFiles, bandwidthFor, readManifest } from "../src/index.ts";

const CONTENTS: Record<string, Uint8Array> = { "a.onnx": new Uint8Array([1, 2, 3]), "a.weights": new Uint8Array(5000).fill(7) };

const manifest = readManifest({
  format: "streamcodec-onnx",
  version: 1,
  bandwidths: [
    { kbps: 1.5, n_q: 2, encoder: "a.onnx", decoder: "a.onnx" },
    { kbps: 6, n_q: 8, encoder: "b.onnx", decoder: "b.onnx" },
  ],
  files: Object.fromEntries(
    Object.entries(CONTENTS).map(([name, data]) => [name, { bytes: data.length, sha256: createHash("sha256").update(data).digest("hex") }]),
  ),
});

function served(contents: Record<string, Uint8Array>) {
  const asked: string[] = [];
  const files = new ModelFiles("model/", manifest, (url) => {
    asked.push(url);
    const data = contents[url.slice("model/".length)];
    return Promise.resolve(new Response(data as Uint8Array<ArrayBuffer>));
  });
  return { files, asked };
}

test("files come whole, once, and say how far they are", async () => {
  const { files, asked } = served(CONTENTS);
  const progress: number[] = [];
  const found = await files.get(["a.onnx", "a.weights"], (done, total) => progress.push(done / total));
  expect(found).toEqual(new Map(Object.entries(CONTENTS)));
  expect(progress.at(-1)).toBe(1);
  await files.get(["a.onnx"]);
  expect(asked).toEqual(["model/a.onnx", "model/a.weights"]);
});

test("a file that came broken is refused, and asked for again the next time", async () => {
  const contents: Record<string, Uint8Array> = { ...CONTENTS, "a.onnx": new Uint8Array([1, 2, 4]) };
  const { files } = served(contents);
  await expect(files.get(["a.onnx"])).rejects.toThrow("came broken");
  contents["a.onnx"] = CONTENTS["a.onnx"];
  expect((await files.get(["a.onnx"])).get("a.onnx")).toEqual(CONTENTS["a.onnx"]);
});

test("a stream gets the steps that have codebooks enough", () => {
  expect([1, 2, 3, 8, 32].map((nQ) => bandwidthFor(manifest, nQ).decoder)).toEqual(["a.onnx", "a.onnx", "b.onnx", "b.onnx", "b.onnx"]);
});

test("a manifest of another format is refused", () => {
  expect(() => readManifest({ format: "streamcodec-onnx", version: 2 })).toThrow("expected streamcodec-onnx 1");
  expect(() => readManifest(null)).toThrow("expected streamcodec-onnx 1");
});
