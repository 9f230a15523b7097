// The codec: encoder and decoder steps by ONNX Runtime, one stream each. State goes in and comes out with each packet.

import type { InferenceSession, Tensor } from "onnxruntime-common";
import type { Codes } from "@streamcodec/protocol";
import { ModelFiles } from "./files.ts";
import type { Progress } from "./files.ts";
import { bandwidthFor, filesOf } from "./manifest.ts";
import type { Manifest } from "./manifest.ts";

/** What this room needs of ONNX Runtime: the web's in a page, the one for Node in tests. */
export interface Runtime {
  readonly InferenceSession: { create(model: Uint8Array, options: InferenceSession.SessionOptions): Promise<InferenceSession> };
  readonly Tensor: new (type: "float32" | "int32", data: Float32Array | Int32Array, dims: readonly number[]) => Tensor;
}

/** A model whose steps are loaded when they are first needed. */
export class OnnxCodec {
  readonly manifest: Manifest;
  readonly #files: ModelFiles;
  readonly #runtime: Runtime;
  readonly #sessions = new Map<string, Promise<InferenceSession>>();

  constructor(manifest: Manifest, files: ModelFiles, runtime: Runtime) {
    this.manifest = manifest;
    this.#files = files;
    this.#runtime = runtime;
  }

  /** An encoder of a stream of `nQ` codebooks. `exact` starts are not every model's: then it rejects. */
  async encoder(nQ: number, start: "exact" | "primed", progress?: Progress): Promise<StreamEncoder> {
    const { states } = this.manifest;
    const offset = states.encoder[start];
    if (offset === null) throw new Error(`the model has no ${start} start of an encoder`);
    const step = bandwidthFor(this.manifest, nQ).encoder;
    const session = await this.#session(step, progress);
    return new StreamEncoder(session, this.#runtime, nQ, await this.#state(offset, states.encoder.size));
  }

  /** A decoder of a stream of up to `nQ` codebooks. */
  async decoder(nQ: number, start: "exact" | "primed", progress?: Progress): Promise<StreamDecoder> {
    const { states } = this.manifest;
    const entry = bandwidthFor(this.manifest, nQ);
    const primed = states.decoder.primed[String(entry.n_q)];
    const offset = start === "exact" ? (states.decoder.exact ?? primed) : primed;
    const session = await this.#session(entry.decoder, progress);
    return new StreamDecoder(session, this.#runtime, await this.#state(offset, states.decoder.size));
  }

  /** Load what a decoder of `nQ` codebooks needs, without starting one. */
  async prepareDecoder(nQ: number, progress?: Progress): Promise<void> {
    await this.#session(bandwidthFor(this.manifest, nQ).decoder, progress);
  }

  /** Give back the memory of all steps; none may be running. Encoders and decoders of this codec cannot be used any longer. */
  async close(): Promise<void> {
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    for (const session of sessions) await (await session).release();
  }

  #session(step: string, progress?: Progress): Promise<InferenceSession> {
    const kept = this.#sessions.get(step);
    if (kept !== undefined) return kept;
    const making = this.#load(step, progress);
    this.#sessions.set(step, making);
    making.catch(() => this.#sessions.delete(step));
    return making;
  }

  async #load(step: string, progress?: Progress): Promise<InferenceSession> {
    const files = await this.#files.get(filesOf(this.manifest, step), progress);
    const externalData = this.manifest.steps[step].weights.map((path) => ({ path, data: files.get(path)! }));
    return this.#runtime.InferenceSession.create(files.get(step)!, { externalData, graphOptimizationLevel: "all" });
  }

  async #state(offset: number, size: number): Promise<Float32Array> {
    const { file } = this.manifest.states;
    const bytes = (await this.#files.get([file])).get(file)!;
    const view = new DataView(bytes.buffer, bytes.byteOffset + offset, 4 * size);
    return Float32Array.from({ length: size }, (_, i) => view.getFloat32(4 * i, true));
  }
}

/** Encodes one stream: whole frames in, codes out. */
export class StreamEncoder {
  readonly #session: InferenceSession;
  readonly #runtime: Runtime;
  readonly #nQ: number;
  #states: Tensor;

  constructor(session: InferenceSession, runtime: Runtime, nQ: number, states: Float32Array) {
    this.#session = session;
    this.#runtime = runtime;
    this.#nQ = nQ;
    this.#states = new runtime.Tensor("float32", states, [1, states.length]);
  }

  /** The codes of the next samples, [n_q][frames]; their number is a multiple of the hop. */
  async feed(samples: Float32Array): Promise<Int32Array[]> {
    const x = new this.#runtime.Tensor("float32", samples, [1, samples.length]);
    const { codes, new_states } = await this.#session.run({ samples: x, states: this.#states });
    this.#states = new_states;
    const frames = codes.dims[2];
    const data = codes.data as Int32Array;
    return Array.from({ length: this.#nQ }, (_, book) => data.slice(book * frames, (book + 1) * frames));
  }
}

/** Decodes one stream: a packet's codes in, its samples out. */
export class StreamDecoder {
  readonly #session: InferenceSession;
  readonly #runtime: Runtime;
  #states: Tensor;

  constructor(session: InferenceSession, runtime: Runtime, states: Float32Array) {
    this.#session = session;
    this.#runtime = runtime;
    this.#states = new runtime.Tensor("float32", states, [1, states.length]);
  }

  /** The samples of the next packet's codes, [n_q][frames]; n_q may differ from packet to packet. */
  async feed(codes: Codes): Promise<Float32Array> {
    const frames = codes[0].length;
    const flat = new Int32Array(codes.length * frames);
    codes.forEach((row, book) => {
      flat.set(Array.from(row), book * frames);
    });
    const x = new this.#runtime.Tensor("int32", flat, [1, codes.length, frames]);
    const { samples, new_states } = await this.#session.run({ codes: x, states: this.#states });
    this.#states = new_states;
    return samples.data as Float32Array;
  }
}
