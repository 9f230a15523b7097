// A client of streamcodec.v1, written from PROTOCOL.md and its test vectors alone: bytes, messages, payloads, turns and numbers.
// Nothing here knows sockets: main.mjs does.

export class Fault extends Error {
  constructor(code, reason) {
    super(`${reason} (${code})`);
    this.code = code;
  }
}

const broken = (reason) => new Fault("bad_message", reason);
export const fromHex = (digits) => Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
export const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

// msgpack, as much of it as the protocol uses -------------------------------------------------------------------------------------------

// A float keeps its kind: where an integer is meant it is refused.
export class Real {
  constructor(value) {
    this.value = value;
  }
}

export function unpack(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const take = (size) => {
    if (at + size > bytes.length) throw broken("the message breaks off");
    at += size;
    return at - size;
  };
  const text = (size) => {
    const from = take(size);
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(from, from + size));
    } catch {
      throw broken("text that is not UTF-8");
    }
  };
  const wide = (value) => (value >= -(2n ** 53n) && value <= 2n ** 53n ? Number(value) : value);
  const uint = { 1: () => view.getUint8(take(1)), 2: () => view.getUint16(take(2)), 4: () => view.getUint32(take(4)) };
  const array = (size) => {
    if (size > 256) throw broken(`an array of ${size}`);
    return Array.from({ length: size }, value);
  };
  const map = (size) => {
    if (size > 64) throw broken(`a map of ${size}`);
    const found = {};
    for (let i = 0; i < size; i++) {
      const key = value();
      if (typeof key !== "string") throw broken("a key that is no text");
      found[key] = value();
    }
    return found;
  };
  const bin = (size) => {
    const from = take(size);
    return bytes.slice(from, from + size);
  };
  const value = () => {
    const head = view.getUint8(take(1));
    if (head < 0x80) return head;
    if (head < 0x90) return map(head & 15);
    if (head < 0xa0) return array(head & 15);
    if (head < 0xc0) return text(head & 31);
    if (head >= 0xe0) return head - 256;
    switch (head) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return bin(uint[1]());
      case 0xc5: return bin(uint[2]());
      case 0xc6: return bin(uint[4]());
      case 0xca: return new Real(view.getFloat32(take(4)));
      case 0xcb: return new Real(view.getFloat64(take(8)));
      case 0xcc: return uint[1]();
      case 0xcd: return uint[2]();
      case 0xce: return uint[4]();
      case 0xcf: return wide(view.getBigUint64(take(8)));
      case 0xd0: return view.getInt8(take(1));
      case 0xd1: return view.getInt16(take(2));
      case 0xd2: return view.getInt32(take(4));
      case 0xd3: return wide(view.getBigInt64(take(8)));
      case 0xd9: return text(uint[1]());
      case 0xda: return text(uint[2]());
      case 0xdb: return text(uint[4]());
      case 0xdc: return array(uint[2]());
      case 0xdd: return array(uint[4]());
      case 0xde: return map(uint[2]());
      case 0xdf: return map(uint[4]());
      default: throw broken(`the byte 0x${head.toString(16)} begins nothing`);
    }
  };
  const found = value();
  if (at !== bytes.length) throw broken("more than one value");
  return found;
}

export function pack(value) {
  const out = [];
  const number = (size, write) => {
    const bytes = new Uint8Array(size);
    write(new DataView(bytes.buffer));
    out.push(...bytes);
  };
  const sized = (size, forms) => {
    const [head, width] = forms.find(([, , most]) => size <= most);
    if (width) out.push(head, ...Array.from({ length: width }, (_, i) => Math.floor(size / 256 ** (width - 1 - i)) % 256));
    else out.push(head | size);
  };
  const whole = (n) => {
    if (n >= 0) {
      if (n < 0x80) out.push(n);
      else if (n < 2 ** 8) out.push(0xcc, n);
      else if (n < 2 ** 16) out.push(0xcd), number(2, (v) => v.setUint16(0, n));
      else if (n < 2 ** 32) out.push(0xce), number(4, (v) => v.setUint32(0, n));
      else out.push(0xcf), number(8, (v) => v.setBigUint64(0, BigInt(n)));
    } else if (n >= -32) out.push(n + 256);
    else if (n >= -(2 ** 7)) out.push(0xd0, n + 256);
    else if (n >= -(2 ** 15)) out.push(0xd1), number(2, (v) => v.setInt16(0, n));
    else out.push(0xd2), number(4, (v) => v.setInt32(0, n));
  };
  const write = (one) => {
    if (one === null) out.push(0xc0);
    else if (typeof one === "boolean") out.push(one ? 0xc3 : 0xc2);
    else if (typeof one === "number") whole(one);
    else if (one instanceof Real) out.push(0xcb), number(8, (v) => v.setFloat64(0, one.value));
    else if (typeof one === "string") {
      const utf8 = new TextEncoder().encode(one);
      sized(utf8.length, [[0xa0, 0, 31], [0xd9, 1, 2 ** 8 - 1], [0xda, 2, 2 ** 16 - 1]]);
      out.push(...utf8);
    } else if (one instanceof Uint8Array) {
      sized(one.length, [[0xc4, 1, 2 ** 8 - 1], [0xc5, 2, 2 ** 16 - 1], [0xc6, 4, 2 ** 32 - 1]]);
      out.push(...one);
    } else if (Array.isArray(one)) {
      sized(one.length, [[0x90, 0, 15], [0xdc, 2, 2 ** 16 - 1]]);
      one.forEach(write);
    } else {
      const entries = Object.entries(one);
      sized(entries.length, [[0x80, 0, 15], [0xde, 2, 2 ** 16 - 1]]);
      for (const [key, inner] of entries) write(key), write(inner);
    }
  };
  write(value);
  return Uint8Array.from(out);
}

// Messages ------------------------------------------------------------------------------------------------------------------------------

const whole = (low, high) => (v) => typeof v === "number" && v >= low && v <= high;
const real = (low, high) => (v) => (typeof v === "number" || v instanceof Real) && plain(v) >= low && plain(v) <= high;
const kbps = (v) => real(0, 1000)(v) && plain(v) > 0;
const text = (least, most) => (v) => {
  const size = typeof v === "string" ? new TextEncoder().encode(v).length : -1;
  return size >= least && size <= most;
};
const matching = (pattern) => (v) => typeof v === "string" && pattern.test(v);
const word = (...words) => (v) => words.includes(v);
const plain = (v) => (v instanceof Real ? v.value : v);

const NAME = matching(/^[A-Za-z0-9._~-]{1,64}$/);
const FORMAT = word("codes", "pcm_s16le", "pcm_f32le");
const SEQ = whole(0, 2 ** 32 - 1), NEXT = whole(0, 2 ** 32), MICROS = whole(0, 2 ** 53 - 1), EPOCH = whole(0, 255);
const N_Q = whole(1, 255), FRAMES = whole(1, 25), PACKET_LENGTH = whole(1, 65_535), LENGTH = whole(1, 2 ** 31 - 1), CHANNELS = whole(1, 8);
const TEXT = text(0, 1000), FINGERPRINT = text(1, 128), SESSION = text(1, 128);
const ADDRESS = matching(/^wss?:\/\/[!-~]{1,1000}$/);
const MILLIS = whole(-3_600_000, 3_600_000), CODE = matching(/^[a-z][a-z0-9_]{0,39}$/), TOKEN = text(0, 4096);
const POWER_OF_TWO = (v) => whole(16, 65_536)(v) && Number.isInteger(Math.log2(v));

// A field is [check], or [check, default]; a map within is [table]. `null` is allowed where it is the default or "null" is said.
const MODEL = {
  name: [text(1, 200)], fingerprint: [FINGERPRINT], sampling_rate: [whole(1, 1_000_000)], hop_length: [whole(1, 1_000_000)],
  codebook_size: [POWER_OF_TWO], num_quantizers: [N_Q], bandwidths: [(v) => Array.isArray(v) && v.every(kbps), []],
  channels: [CHANNELS, 1], chunk_length: [LENGTH, null], chunk_stride: [LENGTH, null], normalize: [word(true, false), false],
};
const RESUME = { session: [SESSION], epoch: [EPOCH], next_seq: [NEXT] };
const TABLES = {
  "hello publish": {
    version: [word(1)], role: [word("publish")], stream: [NAME], format: [FORMAT], sample_rate: [whole(1000, 768_000), null],
    channels: [whole(1, 8), null], model: [FINGERPRINT, null], bandwidth: [kbps, null], packet_frames: [FRAMES, 6],
    start: [word("exact", "primed"), null], pace: [word("live", "fast"), "live"], silence_db: [real(-120, 0), null],
    resume: [RESUME, null], token: [TOKEN, null], client: [TEXT, ""],
  },
  "hello listen": {
    version: [word(1)], role: [word("listen")], stream: [NAME], format: [FORMAT], bandwidth: [kbps, null], min_bandwidth: [kbps, null],
    model: [FINGERPRINT, null], history_ms: [whole(0, 60_000), null], resume: [RESUME, null], token: [TOKEN, null], client: [TEXT, ""],
  },
  welcome: {
    version: [word(1)], role: [word("publish", "listen")], stream: [NAME], model: [MODEL], format: [FORMAT], bandwidth: [kbps, null],
    n_q: [N_Q, null], packet_frames: [PACKET_LENGTH, null], start: [word("exact", "primed"), null], epoch: [EPOCH, null], next_seq: [NEXT, null],
    session: [SESSION, null], resume_ms: [whole(0, 3_600_000), 0], time: [MICROS], server: [TEXT, ""],
  },
  refuse: { code: [CODE], reason: [TEXT], retry: [word(true, false), false], retry_after_ms: [whole(0, 86_400_000), null], go_to: [ADDRESS, null] },
  waiting: { stream: [NAME] },
  start: {
    epoch: [EPOCH], n_q: [N_Q], bandwidth: [kbps], packet_frames: [PACKET_LENGTH], start: [word("exact", "primed", "resumed", "continued")],
    first_seq: [NEXT], live_seq: [NEXT], format: [FORMAT], sample_rate: [whole(1, 1_000_000)], channels: [CHANNELS, 1],
    packet_samples: [LENGTH, null], session: [SESSION, null], reason: [TEXT, ""],
  },
  gap: { first_seq: [SEQ], count: [whole(1, 2 ** 32)], reason: [TEXT, ""] },
  end: { last_seq: [SEQ, null] },
  ended: { received: [MICROS], emitted: [MICROS], dropped: [MICROS] },
  stream_end: { next_seq: [NEXT], reason: [TEXT, ""] },
  report: { received: [NEXT], played: [SEQ, null], margin_ms: [MILLIS, null], late_ms: [MILLIS, null], bandwidth: [kbps, null] },
  ping: { time: [MICROS] },
  pong: { time: [MICROS], server_time: [MICROS], closing_ms: [whole(0, 86_400_000), null], go_to: [ADDRESS, null] },
  error: { code: [CODE], reason: [TEXT], go_to: [ADDRESS, null] },
};
const REALS = new Set(["bandwidth", "min_bandwidth", "silence_db", "bandwidths"]);
const PACKET = { seq: SEQ, epoch: EPOCH, timestamp: SEQ, n_q: whole(0, 255), payload: (v) => v instanceof Uint8Array };

function fields(values, table) {
  const found = {};
  for (const [name, rule] of Object.entries(table)) {
    const [check, ...rest] = rule;
    let value = values[name];
    if (value === undefined) {
      if (!rest.length) throw new Fault("bad_request", `${name} is missing`);
      value = rest[0];
    } else if (typeof check === "object" && value !== null && typeof value === "object") value = fields(value, check);
    else if (!(value === null && rest[0] === null) && (typeof check === "object" || !check(value)))
      throw new Fault("bad_request", `${name} is ${JSON.stringify(value)}`);
    found[name] = Array.isArray(value) ? value.map(plain) : plain(value);
  }
  return found;
}

export function parse(bytes) {
  if (bytes.length > 2 ** 20) throw broken(`the message has ${bytes.length} bytes`);
  const value = unpack(bytes);
  if (Array.isArray(value)) {
    const names = Object.keys(PACKET);
    if (value.length !== names.length) throw broken(`a packet of ${value.length} elements`);
    names.forEach((name, i) => {
      if (!PACKET[name](value[i])) throw broken(`packet: ${name} is ${value[i]}`);
    });
    return { type: "packet", ...Object.fromEntries(names.map((name, i) => [name, value[i]])) };
  }
  if (value === null || typeof value !== "object" || value instanceof Real || value instanceof Uint8Array) throw broken("neither map nor array");
  const { type, role, version } = value;
  if ((type === "hello" || type === "welcome") && version !== 1) throw new Fault("bad_version", `version is ${version}`);
  if (type === "hello" && !["publish", "listen"].includes(role)) throw new Fault("bad_request", `role is ${role}`);
  const table = TABLES[type === "hello" ? `hello ${role}` : type];
  if (typeof type !== "string" || !table) throw broken(`type is ${type}`);
  const message = { type, ...fields(value, table) };
  const bad = whatDoesNotFit(message);
  if (bad) throw new Fault("bad_request", bad);
  return message;
}

function whatDoesNotFit(m) {
  const coded = m.format === "codes";
  if (m.type === "welcome") {
    const { chunk_length: length, chunk_stride: stride, normalize } = m.model;
    if ((length === null) !== (stride === null) || stride > length || (normalize && length === null)) return "the model's chunks do not fit";
  }
  const given = (name, wanted) => (m[name] !== null) === wanted;
  if (m.type === "hello" && m.role === "publish") {
    if (!given("sample_rate", !coded) || !given("channels", !coded) || (coded && (!given("model", true) || !given("silence_db", false))))
      return "a field does not fit the format";
  } else if (m.type === "hello") {
    if (coded ? !given("model", true) : !given("bandwidth", false) || !given("min_bandwidth", false)) return "a field does not fit the format";
    if (m.bandwidth !== null && m.min_bandwidth > m.bandwidth) return "min_bandwidth is above bandwidth";
  } else if (m.type === "welcome" && m.role === "publish") {
    if (!["bandwidth", "n_q", "packet_frames", "start", "epoch", "next_seq"].every((name) => given(name, true))) return "a field is missing";
  } else if (m.type === "start" && (m.live_seq < m.first_seq || (m.start === "continued" && m.live_seq !== m.first_seq)))
    return "live_seq does not fit first_seq";
  else if (m.type === "gap" && m.first_seq + m.count > 2 ** 32) return "the gap ends beyond the last number";
  return null;
}

export function serialize(message) {
  if (message.type === "packet") return pack(Object.keys(PACKET).map((name) => message[name]));
  const floats = (name, v) => {
    if (REALS.has(name)) return Array.isArray(v) ? v.map((one) => new Real(one)) : v === null ? null : new Real(v);
    return v !== null && typeof v === "object" ? Object.fromEntries(Object.entries(v).map(([n, one]) => [n, floats(n, one)])) : v;
  };
  return pack(floats("", message));
}

// Payloads ------------------------------------------------------------------------------------------------------------------------------

const groups = (n_q) => [...Array(Math.floor(n_q / 2)).fill(2), ...(n_q % 2 ? [1] : [])];
export const payloadSize = (n_q, frames, bits) => groups(n_q).reduce((sum, books) => sum + Math.ceil((books * frames * bits) / 8), 0);

export function unpackCodes(payload, n_q, bits) {
  const frames = Math.floor((8 * payload.length) / (n_q * bits));
  if (frames < 1 || payloadSize(n_q, frames, bits) !== payload.length) throw new Fault("bad_payload", `${payload.length} bytes are no packet`);
  const codes = [];
  let at = 0;
  for (const books of groups(n_q)) {
    let position = 8 * at;
    const read = (size) => {
      let found = 0;
      for (let i = 0; i < size; i++, position++) found = 2 * found + ((payload[position >> 3] >> (7 - (position & 7))) & 1);
      return found;
    };
    for (let book = 0; book < books; book++) codes.push(Array.from({ length: frames }, () => read(bits)));
    at += Math.ceil((books * frames * bits) / 8);
    if (read(8 * at - position)) throw new Fault("bad_payload", "padding that is not zero");
  }
  return codes;
}

export function packCodes(codes, bits) {
  const frames = codes[0].length;
  const payload = new Uint8Array(payloadSize(codes.length, frames, bits));
  let at = 0, book = 0;
  for (const books of groups(codes.length)) {
    let position = 8 * at;
    for (const code of codes.slice(book, book + books).flat())
      for (let bit = bits - 1; bit >= 0; bit--, position++) payload[position >> 3] |= ((code >> bit) & 1) << (7 - (position & 7));
    at += Math.ceil((books * frames * bits) / 8);
    book += books;
  }
  return payload;
}

// Behind its scale, where the model normalises: the scale, null where there is none, and the codes.
export function unpackScaled(payload, n_q, bits, scaled = true) {
  if (!scaled) return [null, unpackCodes(payload, n_q, bits)];
  if (payload.length <= 4) throw new Fault("bad_payload", "a scale without codes");
  const scale = new DataView(payload.buffer, payload.byteOffset, 4).getFloat32(0, true);
  if (!(scale >= 0 && scale < Infinity)) throw new Fault("bad_payload", `the scale is ${scale}`);
  return [scale, unpackCodes(payload.subarray(4), n_q, bits)];
}

export function packScaled(scale, codes, bits) {
  const payload = new Uint8Array([0, 0, 0, 0, ...packCodes(codes, bits)]);
  new DataView(payload.buffer).setFloat32(0, scale, true);
  return payload;
}

// The frames of each chunk of an epoch of so many samples.
export function chunkFrames(length, stride, hop, samples) {
  const frames = [];
  for (let at = 0; at < samples; at += stride) frames.push(Math.ceil(Math.min(length, samples - at) / hop));
  return frames;
}

export function overlapAdd(stride, parts) {
  const n = parts[0].length, sums = [], weights = [];
  parts.forEach((part, i) =>
    part.forEach((sample, j) => {
      const weight = 1 / 2 - Math.abs((j + 1) / (n + 1) - 1 / 2), at = i * stride + j;
      [sums[at], weights[at]] = [(sums[at] ?? 0) + weight * sample, (weights[at] ?? 0) + weight];
    }),
  );
  return sums.map((sum, i) => sum / weights[i]);
}

// Arithmetic ----------------------------------------------------------------------------------------------------------------------------

const modulo = (n, m) => ((n % m) + m) % m;
export const unwrap = (timestamp, now) => now - 2 ** 31 + modulo(timestamp - now + 2 ** 31, 2 ** 32);
export const kbpsOf = (n_q, bits, rate, hop) => (n_q * bits * rate) / hop / 1000;
export const isQuiet = (n_q, streamNq, bits) => n_q > 0 && n_q < streamNq && n_q <= (bits >= 8 ? 1 : 2);
export const joined = (a, b) => ({ ...a, count: a.count + b.count, reason: b.reason === "silence" ? a.reason : b.reason });

export class Clock {
  exchanges = [];
  update(sent, serverTime, received) {
    if (received < sent) return;
    this.exchanges = [...this.exchanges, [received - sent, serverTime - Math.floor((sent + received) / 2)]].slice(-16);
  }
  get best() {
    return this.exchanges.reduce((a, b) => (b[0] < a[0] ? b : a));
  }
}

export class Dtx {
  since = Infinity;
  leavesOut(quiet, seconds) {
    const left = quiet && this.since + seconds <= 0.8 + 1e-6;
    this.since = left ? this.since + seconds : quiet ? seconds : Infinity;
    return left;
  }
}

const LITTLE_S = 0.24;
export class Window {
  past = [];
  alone = 0;
  crowded = 0;
  constructor(seconds, trips) {
    Object.assign(this, { seconds, trips });
  }
  answered(ahead, trip) {
    this.past = [...this.past, trip].slice(-this.trips);
    if (ahead < LITTLE_S - 1e-6) [this.alone, this.crowded] = [trip, 0];
    else this.crowded++;
  }
  get roundTrip() {
    return this.past.length ? Math.min(...this.past, this.alone + LITTLE_S) : 0.5;
  }
  get max() {
    const doubt = this.crowded >= 2 * this.trips && Math.min(...this.past) > this.alone + LITTLE_S;
    return doubt ? LITTLE_S : this.seconds + this.roundTrip;
  }
}

// Turns and numbers ---------------------------------------------------------------------------------------------------------------------

const CLOSE = {
  bad_message: 4400, unauthorized: 4401, out_of_turn: 4403, bad_version: 4406, timeout: 4408, stream_taken: 4409, unknown_session: 4410,
  taken_over: 4411, model_mismatch: 4412, slow_listener: 4413, bad_payload: 4415, bad_sequence: 4416, bad_request: 4422, rate_limited: 4429,
  internal: 4500, server_closing: 4501, server_full: 4503,
};
export const closeCode = (code) => CLOSE[code] ?? 1000;

const TURNS = {
  hello: { client: { hello: null }, server: { refuse: "closed" } },
  publish_asked: { client: { error: "closed" }, server: { welcome: "publishing", refuse: "closed" } },
  listen_asked: { client: { error: "closed" }, server: { welcome: "waiting", refuse: "closed" } },
  publishing: {
    client: { packet: "publishing", gap: "publishing", end: "draining", ping: "publishing", error: "closed" },
    server: { gap: "publishing", pong: "publishing", error: "closed" },
  },
  draining: { client: { ping: "draining", error: "closed" }, server: { gap: "draining", pong: "draining", ended: "closed", error: "closed" } },
  waiting: {
    client: { report: "waiting", ping: "waiting", error: "closed" },
    server: { waiting: "waiting", start: "streaming", pong: "waiting", error: "closed" },
  },
  streaming: {
    client: { report: "streaming", ping: "streaming", error: "closed" },
    server: { packet: "streaming", gap: "streaming", start: "streaming", stream_end: "waiting", pong: "streaming", error: "closed" },
  },
};

// Both ends of a connection: what either sends is applied, or refused by a Fault.
export class Session {
  state = "hello";
  next = 0;
  epoch = 0;
  hello = null;
  welcome = null;
  start = null;
  close = null;
  short = false;

  apply(side, m) {
    const after = TURNS[this.state]?.[side][m.type];
    if (after === undefined) throw new Fault("out_of_turn", `${m.type} from the ${side} while ${this.state}`);
    this["on_" + m.type]?.(m, side);
    this.state = after ?? (m.role === "publish" ? "publish_asked" : "listen_asked");
  }

  expect(what, seq) {
    if (seq !== this.next) throw new Fault("bad_sequence", `${what} is ${seq}, expected ${this.next}`);
  }

  on_hello(m) {
    this.hello = m;
  }

  on_welcome(m) {
    if (["role", "stream", "format"].some((name) => m[name] !== this.hello[name])) throw new Fault("bad_request", "not what was asked for");
    if (this.hello.model !== null && this.hello.model !== m.model.fingerprint) throw new Fault("model_mismatch", "another model");
    [this.welcome, this.next, this.epoch] = [m, m.next_seq ?? 0, m.epoch ?? 0];
  }

  on_start(m) {
    if (m.format !== this.welcome.format) throw new Fault("bad_request", "another format");
    if (m.packet_frames > 25 && this.welcome.model.chunk_length === null) throw new Fault("bad_request", "a packet length of chunks");
    const asked = this.start === null ? this.hello.resume : null;
    if (m.start === "continued") {
      if (!asked || m.session !== asked.session || m.epoch !== asked.epoch || m.first_seq !== asked.next_seq)
        throw new Fault("bad_sequence", "it continues what nobody asked for");
    } else if (this.state === "streaming") this.expect("live_seq", m.live_seq);
    [this.start, this.next, this.epoch] = [m, m.first_seq, m.epoch];
  }

  on_gap(m, side) {
    const behind = m.first_seq + m.count;
    if (side === "server" && this.state !== "streaming") {
      if (m.first_seq < this.welcome.next_seq || behind > this.next) throw new Fault("bad_sequence", "dropped what was never sent");
      return;
    }
    this.expect("first_seq", m.first_seq);
    this.next = behind;
  }

  on_end(m) {
    const last = this.next !== this.welcome.next_seq ? this.next - 1 : null;
    const resumed = last === null && this.hello.resume !== null && m.last_seq === this.next - 1;
    if (m.last_seq !== last && !resumed) throw new Fault("bad_sequence", `last_seq is ${m.last_seq}, expected ${last}`);
  }

  on_stream_end(m) {
    this.expect("next_seq", m.next_seq);
  }

  on_ended() {
    this.close = 1000;
  }

  on_refuse(m) {
    this.close = closeCode(m.code);
  }

  on_error(m) {
    this.close = closeCode(m.code);
  }

  on_packet(m) {
    const publishing = this.state === "publishing";
    this.expect("seq", m.seq);
    const fresh = m.epoch !== this.epoch;
    if (fresh && !(publishing && m.epoch === (this.epoch + 1) % 256)) throw new Fault("bad_sequence", `epoch is ${m.epoch}`);
    if (publishing && this.short && !fresh) throw new Fault("bad_payload", "a packet behind a short one");
    this.short = this.checkPayload(m, publishing);
    [this.next, this.epoch] = [m.seq + 1, m.epoch];
  }

  // Whether the packet is so short that it is the last of its epoch.
  checkPayload(m, publishing) {
    const { format } = this.hello, { model } = this.welcome, agreed = publishing ? this.welcome : this.start;
    const chunked = model.chunk_length !== null;
    if (format === "codes") {
      if (m.n_q < 1 || m.n_q > agreed.n_q) throw new Fault("bad_payload", `n_q is ${m.n_q}`);
      const frames = unpackScaled(m.payload, m.n_q, Math.log2(model.codebook_size), model.normalize)[1][0].length;
      if (frames > (publishing || chunked ? agreed.packet_frames : 25)) throw new Fault("bad_payload", `${frames} frames`);
      return chunked ? frames * model.hop_length <= model.chunk_stride : frames < agreed.packet_frames;
    }
    const most = publishing ? this.hello.sample_rate : Math.max(this.start.sample_rate, model.chunk_stride ?? 0);
    const sample = (publishing ? this.hello.channels : this.start.channels) * (format === "pcm_s16le" ? 2 : 4);
    if (m.n_q !== 0 || !m.payload.length || m.payload.length % sample || m.payload.length > most * sample)
      throw new Fault("bad_payload", `${m.payload.length} bytes of PCM`);
    return false;
  }
}
