// EnCodec's steps in a browser, from what `streamcodec export` wrote.

export { OnnxCodec, StreamDecoder, StreamEncoder } from "./codec.ts";
export type { Runtime } from "./codec.ts";
export { ModelFiles } from "./files.ts";
export type { Progress } from "./files.ts";
export { bandwidthFor, readManifest } from "./manifest.ts";
export type { Manifest } from "./manifest.ts";
