// Builds the page into the package: each part has a hash of its content in its name, and lies there compressed.
//
//   node build.mjs FOLDER

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { brotliCompressSync, brotliDecompressSync, constants } from "node:zlib";
import { build } from "esbuild";

const FOLDER = process.argv[2] ?? join(import.meta.dirname, "../../streamcodec/server/page");
const written = new Set();

mkdirSync(FOLDER, { recursive: true });

/** Keep a part under its name with a hash; a compressor of another version leaves what holds the same. */
function put(name, ending, content) {
  const hash = createHash("sha256").update(content).digest("hex").slice(0, 16);
  const file = ending === "html" ? `${name}.${ending}` : `${name}-${hash}.${ending}`;
  write(`${file}.br`, content);
  return file;
}

function write(file, content) {
  written.add(file);
  try {
    if (brotliDecompressSync(readFileSync(join(FOLDER, file))).equals(content)) return;
  } catch {
    // It is not there yet.
  }
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: 11,
    [constants.BROTLI_PARAM_LGWIN]: 24,
    [constants.BROTLI_PARAM_SIZE_HINT]: content.length,
  };
  writeFileSync(join(FOLDER, file), brotliCompressSync(content, { params }));
}

async function bundle(entry, define = {}) {
  const { outputFiles } = await build({
    entryPoints: [join(import.meta.dirname, entry)],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    conditions: ["source"],
    legalComments: "none",
    define,
    write: false,
  });
  return Buffer.from(outputFiles[0].contents);
}

const runtime = dirname(createRequire(import.meta.url).resolve("onnxruntime-web/wasm"));
const parts = {
  wasm: put("onnxruntime", "wasm", readFileSync(join(runtime, "ort-wasm-simd-threaded.wasm"))),
  capture: put("capture", "js", await bundle("page/worklets/capture.ts")),
  playout: put("playout", "js", await bundle("page/worklets/playout.ts")),
  listen_worker: put("listen_worker", "js", await bundle("page/src/listen_worker.ts")),
  talk_worker: put("talk_worker", "js", await bundle("page/src/talk_worker.ts")),
};
const main = put("main", "js", await bundle("page/src/main.ts", { PARTS: JSON.stringify(parts) }));
const style = put("style", "css", await bundle("page/style.css"));
const html = readFileSync(join(import.meta.dirname, "page/index.html"), "utf-8")
  .replace("{{main}}", main)
  .replace("{{style}}", style);
put("index", "html", Buffer.from(html));
for (const file of readdirSync(FOLDER)) if (!written.has(file)) rmSync(join(FOLDER, file));
