// Every message of streamcodec.v1: its type, the table of its fields, and `parse` beside `serialize`. This file knows bytes, not turns.
// Messages and fields have the names that they have on the wire; PROTOCOL.md says what they mean.

import { LocalProtocolError, RemoteProtocolError, asTheirs } from "./errors.ts";
import {
  flag,
  map,
  matching,
  orElse,
  orNull,
  positive,
  positives,
  readFields,
  several,
  shown,
  text,
  whole,
  word,
  between,
  writtenFields,
} from "./fields.ts";
import type { Table } from "./fields.ts";
import { pack, unpack } from "./msgpack.ts";

export const SUBPROTOCOL = "streamcodec.v1";
export const PROTOCOL_VERSION = 1;
export const MAX_MESSAGE_BYTES = 2 ** 20;
/** Of all messages but packets. */
export const MAX_CONTROL_BYTES = 2 ** 14;
const PACKET_HEAD = 0x95; // an array of five
export const MAX_SEQ = 2 ** 32 - 1;
export const MAX_EPOCH = 255;
export const MAX_PACKET_FRAMES = 25;
export const MAX_TEXT = 1000;
export const MAX_ALTERNATES = 4;
/** The reason of a gap whose packets held nothing to hear. */
export const SILENCE = "silence";

export type Format = "codes" | "pcm_s16le" | "pcm_f32le";
export type StartKind = "exact" | "primed";

export interface Packet {
  readonly type: "packet";
  readonly seq: number;
  readonly epoch: number;
  /** The server's clock in microseconds, modulo 2^32, when the first sample was captured. */
  readonly timestamp: number;
  /** Codebooks in the payload; 0 where it is PCM. */
  readonly n_q: number;
  readonly payload: Uint8Array;
}

export interface Resume {
  readonly session: string;
  readonly epoch: number;
  readonly next_seq: number;
}

export interface PublishHello {
  readonly type: "hello";
  readonly version: number;
  readonly role: "publish";
  readonly stream: string;
  readonly format: Format;
  readonly sample_rate: number | null;
  readonly channels: number | null;
  readonly model: string | null;
  readonly bandwidth: number | null;
  readonly packet_frames: number;
  readonly start: StartKind | null;
  readonly pace: "live" | "fast";
  readonly silence_db: number | null;
  readonly resume: Resume | null;
  readonly can_move: boolean;
  readonly token: string | null;
  readonly client: string;
}

export interface ListenHello {
  readonly type: "hello";
  readonly version: number;
  readonly role: "listen";
  readonly stream: string;
  readonly format: Format;
  readonly bandwidth: number | null;
  readonly min_bandwidth: number | null;
  readonly model: string | null;
  readonly history_ms: number | null;
  readonly resume: Resume | null;
  readonly can_move: boolean;
  readonly token: string | null;
  readonly client: string;
}

export interface ModelInfo {
  readonly name: string;
  readonly fingerprint: string;
  readonly sampling_rate: number;
  readonly hop_length: number;
  readonly codebook_size: number;
  readonly num_quantizers: number;
  readonly bandwidths: readonly number[];
  readonly channels: number;
  readonly chunk_length: number | null;
  readonly chunk_stride: number | null;
  readonly normalize: boolean;
}

export interface Welcome {
  readonly type: "welcome";
  readonly version: number;
  readonly role: "publish" | "listen";
  readonly stream: string;
  readonly model: ModelInfo;
  readonly format: Format;
  readonly bandwidth: number | null;
  readonly n_q: number | null;
  readonly packet_frames: number | null;
  readonly start: StartKind | null;
  readonly epoch: number | null;
  readonly next_seq: number | null;
  readonly session: string | null;
  readonly resume_ms: number;
  /** Addresses of servers that know the same streams. */
  readonly alternates: readonly string[];
  readonly time: number;
  readonly server: string;
}

export interface Refuse {
  readonly type: "refuse";
  readonly code: string;
  readonly reason: string;
  readonly retry: boolean;
  readonly retry_after_ms: number | null;
  readonly go_to: string | null;
}

export interface Waiting {
  readonly type: "waiting";
  readonly stream: string;
}

export interface StreamStart {
  readonly type: "start";
  readonly epoch: number;
  readonly n_q: number;
  readonly bandwidth: number;
  readonly packet_frames: number;
  readonly start: StartKind | "resumed" | "continued";
  readonly first_seq: number;
  readonly live_seq: number;
  readonly format: Format;
  readonly sample_rate: number;
  readonly channels: number;
  readonly packet_samples: number | null;
  readonly session: string | null;
  readonly reason: string;
}

export interface Gap {
  readonly type: "gap";
  readonly first_seq: number;
  readonly count: number;
  readonly reason: string;
}

export interface End {
  readonly type: "end";
  readonly last_seq: number | null;
}

export interface Ended {
  readonly type: "ended";
  readonly received: number;
  readonly emitted: number;
  readonly dropped: number;
}

export interface StreamEnd {
  readonly type: "stream_end";
  readonly next_seq: number;
  readonly reason: string;
}

export interface Report {
  readonly type: "report";
  readonly received: number;
  readonly played: number | null;
  readonly margin_ms: number | null;
  readonly late_ms: number | null;
  readonly bandwidth: number | null;
}

export interface Ping {
  readonly type: "ping";
  readonly time: number;
}

export interface Pong {
  readonly type: "pong";
  readonly time: number;
  readonly server_time: number;
  readonly closing_ms: number | null;
  readonly go_to: string | null;
}

export interface ErrorMessage {
  readonly type: "error";
  readonly code: string;
  readonly reason: string;
  readonly go_to: string | null;
}

export type Hello = PublishHello | ListenHello;
export type ControlMessage =
  Hello | Welcome | Refuse | Waiting | StreamStart | Gap | End | Ended | StreamEnd | Report | Ping | Pong | ErrorMessage;
export type Message = Packet | ControlMessage;

const version = whole(PROTOCOL_VERSION, PROTOCOL_VERSION);
const streamName = matching(/^[A-Za-z0-9._~-]{1,64}$/, "1 to 64 of A-Z a-z 0-9 . _ ~ -");
const format = word("codes", "pcm_s16le", "pcm_f32le");
const kbps = positive(1000);
const codebooks = whole(1, 255);
const packetFrames = whole(1, MAX_PACKET_FRAMES);
const anyPacketFrames = whole(1, 65_535);
const channels = whole(1, 8);
const length = whole(1, 2 ** 31 - 1);
const startKind = word("exact", "primed");
const seq = whole(0, MAX_SEQ);
const nextSeq = whole(0, MAX_SEQ + 1);
const epoch = whole(0, MAX_EPOCH);
const micros = whole(0, Number.MAX_SAFE_INTEGER);
const freeText = text(0, MAX_TEXT);
const token = text(0, 4096);
const session = text(1, 128);
const millis = whole(-3_600_000, 3_600_000);
const dayMs = whole(0, 86_400_000);
const fingerprint = text(1, 128);
const address = matching(/^wss?:\/\/[!-~]{1,1000}$/, "ws:// or wss://, and at most 1,000 printable characters of ASCII behind it");
const code = matching(/^[a-z][a-z0-9_]{0,39}$/, "a lower-case word of 1 to 40 characters");

const MODEL: Table = {
  name: text(1, 200),
  fingerprint,
  sampling_rate: whole(1, 1_000_000),
  hop_length: whole(1, 1_000_000),
  codebook_size: whole(16, 65_536),
  num_quantizers: codebooks,
  bandwidths: orElse(positives(1000), []),
  channels: orElse(channels, 1),
  chunk_length: orNull(length),
  chunk_stride: orNull(length),
  normalize: orElse(flag, false),
};

const RESUME: Table = { session, epoch, next_seq: nextSeq };

const TABLES: Readonly<Record<string, Table>> = {
  "hello publish": {
    version,
    role: word("publish"),
    stream: streamName,
    format,
    sample_rate: orNull(whole(1000, 768_000)),
    channels: orNull(channels),
    model: orNull(fingerprint),
    bandwidth: orNull(kbps),
    packet_frames: orElse(packetFrames, 6),
    start: orNull(startKind),
    pace: orElse(word("live", "fast"), "live"),
    silence_db: orNull(between(-120, 0)),
    resume: orNull(map(RESUME)),
    can_move: orElse(flag, false),
    token: orNull(token),
    client: orElse(freeText, ""),
  },
  "hello listen": {
    version,
    role: word("listen"),
    stream: streamName,
    format,
    bandwidth: orNull(kbps),
    min_bandwidth: orNull(kbps),
    model: orNull(fingerprint),
    history_ms: orNull(whole(0, 60_000)),
    resume: orNull(map(RESUME)),
    can_move: orElse(flag, false),
    token: orNull(token),
    client: orElse(freeText, ""),
  },
  welcome: {
    version,
    role: word("publish", "listen"),
    stream: streamName,
    model: map(MODEL),
    format,
    bandwidth: orNull(kbps),
    n_q: orNull(codebooks),
    packet_frames: orNull(anyPacketFrames),
    start: orNull(startKind),
    epoch: orNull(epoch),
    next_seq: orNull(nextSeq),
    session: orNull(session),
    resume_ms: orElse(whole(0, 3_600_000), 0),
    alternates: orElse(several(address, MAX_ALTERNATES), []),
    time: micros,
    server: orElse(freeText, ""),
  },
  refuse: { code, reason: freeText, retry: orElse(flag, false), retry_after_ms: orNull(dayMs), go_to: orNull(address) },
  waiting: { stream: streamName },
  start: {
    epoch,
    n_q: codebooks,
    bandwidth: kbps,
    packet_frames: anyPacketFrames,
    start: word("exact", "primed", "resumed", "continued"),
    first_seq: nextSeq,
    live_seq: nextSeq,
    format,
    sample_rate: whole(1, 1_000_000),
    channels: orElse(channels, 1),
    packet_samples: orNull(length),
    session: orNull(session),
    reason: orElse(freeText, ""),
  },
  gap: { first_seq: seq, count: whole(1, 2 ** 32), reason: orElse(freeText, "") },
  end: { last_seq: orNull(seq) },
  ended: { received: micros, emitted: micros, dropped: micros },
  stream_end: { next_seq: nextSeq, reason: orElse(freeText, "") },
  report: { received: nextSeq, played: orNull(seq), margin_ms: orNull(millis), late_ms: orNull(millis), bandwidth: orNull(kbps) },
  ping: { time: micros },
  pong: { time: micros, server_time: micros, closing_ms: orNull(dayMs), go_to: orNull(address) },
  error: { code, reason: freeText, go_to: orNull(address) },
};

const PACKET: Table = { seq, epoch, timestamp: seq, n_q: whole(0, 255) };

/**
 * Read one binary WebSocket message.
 *
 * Throws `RemoteProtocolError`: bad_message for bytes that are no message, bad_version for a hello or welcome of another version, bad_request
 * for a field that is missing or out of range.
 */
export function parse(data: Uint8Array): Message {
  checkSize(data, (reason) => new RemoteProtocolError("bad_message", reason));
  const value = unpack(data);
  if (Array.isArray(value)) return packetOf(value);
  if (value === null || typeof value !== "object" || Object.getPrototypeOf(value) !== null) {
    throw new RemoteProtocolError("bad_message", `the message is ${shown(value)}, expected a map or a packet's array`);
  }
  const values = value as Record<string, unknown>;
  const { type: kind, role } = values;
  if ((kind === "hello" || kind === "welcome") && values["version"] !== PROTOCOL_VERSION) {
    throw new RemoteProtocolError("bad_version", `${kind}: version is ${shown(values["version"] ?? null)}, expected ${PROTOCOL_VERSION}`);
  }
  if (kind === "hello" && role !== "publish" && role !== "listen") {
    throw new RemoteProtocolError("bad_request", `hello: role is ${shown(role ?? null)}, expected publish or listen`);
  }
  const table = typeof kind === "string" ? tableOf(kind, role) : undefined;
  if (table === undefined) {
    throw new RemoteProtocolError("bad_message", `type is ${shown(kind ?? null)}, expected one of ${Object.keys(TABLES).join(", ")}`);
  }
  return asTheirs("bad_request", () => checked(kind as string, values, table));
}

/** The message's bytes, every field written, null where there is none. Throws `LocalProtocolError`. */
export function serialize(message: Message): Uint8Array {
  const data = message.type === "packet" ? packedPacket(message) : packedControl(message);
  checkSize(data, (reason) => new LocalProtocolError(reason));
  return data;
}

/** A hello of a publisher; what is not given is the protocol's default. Throws `LocalProtocolError`. */
export function publishHello(asked: Partial<PublishHello> & Pick<PublishHello, "stream" | "format">): PublishHello {
  return complete("hello", { version: PROTOCOL_VERSION, role: "publish", ...asked }) as PublishHello;
}

/** A hello of a listener; what is not given is the protocol's default. Throws `LocalProtocolError`. */
export function listenHello(asked: Partial<ListenHello> & Pick<ListenHello, "stream" | "format">): ListenHello {
  return complete("hello", { version: PROTOCOL_VERSION, role: "listen", ...asked }) as ListenHello;
}

/** Bytes per sample in a PCM format; 0 for codes. */
export function sampleWidth(of: Format): number {
  return { codes: 0, pcm_s16le: 2, pcm_f32le: 4 }[of];
}

/** The samples that a packet of `frames` frames adds to a stream. */
export function packetSamples(model: Pick<ModelInfo, "hop_length" | "chunk_stride">, frames: number): number {
  return model.chunk_stride ?? frames * model.hop_length;
}

function checkSize(data: Uint8Array, fault: (reason: string) => Error): void {
  const most = data[0] === PACKET_HEAD ? MAX_MESSAGE_BYTES : MAX_CONTROL_BYTES;
  if (data.length > most) throw fault(`the message has ${data.length} bytes, expected at most ${most}`);
}

function tableOf(kind: string, role: unknown): Table | undefined {
  const name = kind === "hello" ? `hello ${String(role)}` : kind;
  return Object.hasOwn(TABLES, name) && (kind === "hello" || !kind.includes(" ")) ? TABLES[name] : undefined;
}

function complete(kind: string, values: Record<string, unknown>): Message {
  const table = tableOf(kind, values["role"]);
  if (table === undefined) throw new LocalProtocolError(`type is ${shown(kind)}, expected one of ${Object.keys(TABLES).join(", ")}`);
  return checked(kind, values, table);
}

function packetOf(values: unknown[]): Packet {
  if (values.length !== 5) throw new RemoteProtocolError("bad_message", `packet: the array has ${values.length} elements, expected 5`);
  const [aSeq, anEpoch, timestamp, n_q, payload] = values;
  if (!(payload instanceof Uint8Array)) {
    throw new RemoteProtocolError("bad_message", `packet: payload is ${shown(payload)}, expected bytes`);
  }
  const fields = asTheirs("bad_message", () => readFields("packet", { seq: aSeq, epoch: anEpoch, timestamp, n_q }, PACKET));
  return { type: "packet", ...fields, payload } as Packet;
}

function packedPacket(packet: Packet): Uint8Array {
  readFields("packet", { ...packet }, PACKET);
  return pack([packet.seq, packet.epoch, packet.timestamp, packet.n_q, packet.payload]);
}

function packedControl(message: ControlMessage): Uint8Array {
  const { type: kind, ...values } = message as ControlMessage & Record<string, unknown>;
  const table = tableOf(kind, values["role"]);
  if (table === undefined) throw new LocalProtocolError(`type is ${shown(kind)}, expected one of ${Object.keys(TABLES).join(", ")}`);
  checked(kind, values, table);
  return pack({ type: kind, ...writtenFields(values, table) });
}

function checked(kind: string, values: Record<string, unknown>, table: Table): Message {
  const message = { type: kind, ...readFields(kind, values, table) } as Message;
  const fault = misfit(message);
  if (fault !== null) throw new LocalProtocolError(`${kind}: ${fault}`);
  return message;
}

/** What one field says about another. */
function misfit(message: Message): string | null {
  switch (message.type) {
    case "hello":
      return message.role === "publish" ? publishMisfit(message) : listenMisfit(message);
    case "welcome":
      return modelMisfit(message.model) ?? welcomeMisfit(message);
    case "start":
      if (message.live_seq < message.first_seq) return `live_seq is ${message.live_seq}, expected first_seq ${message.first_seq} or more`;
      if (message.start !== "continued" || message.live_seq === message.first_seq) return null;
      return `live_seq is ${message.live_seq}, expected first_seq ${message.first_seq} where it is continued`;
    case "gap":
      if (message.first_seq + message.count <= MAX_SEQ + 1) return null;
      return `count is ${message.count}, expected at most ${MAX_SEQ + 1 - message.first_seq} from first_seq ${message.first_seq}`;
    default:
      return null;
  }
}

function given(name: string, value: unknown, needed: boolean, of: Format): string | null {
  return (value !== null) === needed ? null : `${name} is ${shown(value)}, expected ${needed ? "a value" : "null"} with format ${of}`;
}

function publishMisfit(hello: PublishHello): string | null {
  const coded = hello.format === "codes";
  const rate = given("sample_rate", hello.sample_rate, !coded, hello.format) ?? given("channels", hello.channels, !coded, hello.format);
  if (rate !== null || !coded) return rate;
  return given("model", hello.model, true, hello.format) ?? given("silence_db", hello.silence_db, false, hello.format);
}

function listenMisfit(hello: ListenHello): string | null {
  if (hello.format === "codes") {
    const model = given("model", hello.model, true, hello.format);
    if (model !== null) return model;
  } else {
    const pcm =
      given("bandwidth", hello.bandwidth, false, hello.format) ?? given("min_bandwidth", hello.min_bandwidth, false, hello.format);
    if (pcm !== null) return pcm;
  }
  if (hello.bandwidth === null || hello.min_bandwidth === null || hello.min_bandwidth <= hello.bandwidth) return null;
  return `min_bandwidth is ${hello.min_bandwidth}, expected at most bandwidth ${hello.bandwidth}`;
}

function modelMisfit(model: ModelInfo): string | null {
  const { chunk_length: chunk, chunk_stride: stride } = model;
  if ((chunk === null) !== (stride === null) || (stride ?? 0) > (chunk ?? 0)) {
    return `chunk_length is ${chunk} and chunk_stride ${stride}, expected both or neither, and the stride at most the length`;
  }
  if (model.normalize && chunk === null) return "normalize is true, expected false without a chunk_length";
  return Number.isInteger(Math.log2(model.codebook_size)) ? null : `codebook_size is ${model.codebook_size}, expected a power of two`;
}

function welcomeMisfit(welcome: Welcome): string | null {
  if (welcome.role !== "publish") return null;
  const needed = ["bandwidth", "n_q", "packet_frames", "start", "epoch", "next_seq"] as const;
  const missing = needed.find((name) => welcome[name] === null);
  return missing === undefined ? null : `${missing} is null, expected a value with role publish`;
}
