// The package passes every test vector that stands beside PROTOCOL.md.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  ClientSession,
  ClockEstimate,
  DtxFilter,
  LocalProtocolError,
  RemoteProtocolError,
  SendWindow,
  chunkFrames,
  closeCodeOf,
  isQuiet,
  joinedGap,
  kbpsOf,
  overlapAdd,
  packCodes,
  packScaled,
  packetSamples,
  parse,
  serialize,
  truncatePayload,
  unpackCodes,
  unpackScaled,
  unwrapTimestamp,
} from "@streamcodec/protocol";
import type { Gap, Hello, Message } from "@streamcodec/protocol";

const FOLDER = process.env["STREAMCODEC_VECTORS"] ?? join(import.meta.dirname, "../../../../streamcodec/protocol/vectors");
const FILES = ["messages", "payloads", "clock", "numbers", "window", "dtx", "sessions"];
const used = new Set<string>();

/** A file of vectors, which remembers what of it was used. */
function read(name: string): unknown {
  const found = JSON.parse(readFileSync(join(FOLDER, `${name}.json`), "utf-8")) as Record<string, unknown>;
  return new Proxy(found, {
    get: (values, key: string) => {
      used.add(`${name}.${key}`);
      return values[key];
    },
  });
}

const fromHex = (digits: string) => Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const toHex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

type Fields = Record<string, unknown> & { type: string };

function messageOf(fields: Fields): Message {
  return (fields.type === "packet" ? { ...fields, payload: fromHex(fields["payload"] as string) } : fields) as unknown as Message;
}

function faultOf(act: () => unknown): string | null {
  try {
    act();
  } catch (error) {
    if (error instanceof RemoteProtocolError) return error.code;
    throw error;
  }
  return null;
}

/** What the server would say to a message that was not sent. */
function blameFor(act: () => void): string | null {
  try {
    act();
  } catch (error) {
    if (error instanceof LocalProtocolError && error.cause instanceof RemoteProtocolError) return error.cause.code;
    throw error;
  }
  return null;
}

const rows = (codes: Int32Array[]) => codes.map((row) => Array.from(row));

describe("messages", () => {
  const { both_ways, read_only, refused } = read("messages") as {
    both_ways: { message: Fields; bytes: string }[];
    read_only: { message: Fields; bytes: string }[];
    refused: { bytes: string; code: string }[];
  };

  test.each(both_ways)("a $message.type is read and written: $bytes", ({ message, bytes }) => {
    expect(parse(fromHex(bytes))).toEqual(messageOf(message));
    expect(toHex(serialize(messageOf(message)))).toBe(bytes);
  });
  test.each(read_only)("other bytes of a peer are read: $bytes", ({ message, bytes }) => {
    expect(parse(fromHex(bytes))).toEqual(messageOf(message));
  });
  test.each(refused)("bytes that are no message are refused with $code: $bytes", ({ bytes, code }) => {
    expect(faultOf(() => parse(fromHex(bytes)))).toBe(code);
  });
});

describe("payloads", () => {
  interface Packed {
    n_q: number;
    bits: number;
    codes: number[][];
    bytes: string;
    prefixes: Record<string, number>;
    scale: number;
  }
  const { packed, scaled, refused, refused_scaled } = read("payloads") as {
    packed: Packed[];
    scaled: Packed[];
    refused: { n_q: number; bits: number; bytes: string }[];
    refused_scaled: { n_q: number; bits: number; bytes: string }[];
  };

  test.each(packed)("$n_q codebooks of $bits bits are packed, unpacked and cut: $bytes", ({ n_q, bits, codes, bytes, prefixes }) => {
    const payload = fromHex(bytes);
    expect(rows(unpackCodes(payload, n_q, bits))).toEqual(codes);
    expect(toHex(packCodes(codes, bits))).toBe(bytes);
    for (const [fewer, size] of Object.entries(prefixes)) {
      const cut = truncatePayload(payload, n_q, Number(fewer), bits);
      expect(cut.length).toBe(size);
      expect(rows(unpackCodes(cut, Number(fewer), bits))).toEqual(codes.slice(0, Number(fewer)));
    }
  });
  test.each(scaled)("$n_q codebooks behind the scale $scale: $bytes", ({ n_q, bits, codes, bytes, prefixes, scale }) => {
    const found = unpackScaled(fromHex(bytes), n_q, bits);
    expect([found.scale, rows(found.codes)]).toEqual([scale, codes]);
    expect(toHex(packScaled(scale, codes, bits))).toBe(bytes);
    for (const [fewer, size] of Object.entries(prefixes)) {
      expect(rows(unpackScaled(fromHex(bytes).subarray(0, size), Number(fewer), bits).codes)).toEqual(codes.slice(0, Number(fewer)));
    }
  });
  test.each(refused)("$bytes are no packet of $n_q codebooks of $bits bits", ({ n_q, bits, bytes }) => {
    expect(faultOf(() => unpackCodes(fromHex(bytes), n_q, bits))).toBe("bad_payload");
  });
  test.each(refused_scaled)("$bytes are no scaled packet of $n_q codebooks of $bits bits", ({ n_q, bits, bytes }) => {
    expect(faultOf(() => unpackScaled(fromHex(bytes), n_q, bits))).toBe("bad_payload");
  });
});

describe("the clock", () => {
  const { unwrapped, exchanges } = read("clock") as {
    unwrapped: { timestamp: number; now: number; time: number }[];
    exchanges: Record<"sent" | "server_time" | "received" | "round_trip" | "offset" | "server_time_at_1000000", number>[];
  };

  test.each(unwrapped)("$timestamp near $now is $time", ({ timestamp, now, time }) => {
    expect(unwrapTimestamp(timestamp, now)).toBe(time);
  });
  test("the estimate follows the exchanges", () => {
    const clock = new ClockEstimate();
    for (const one of exchanges) {
      clock.update(one.sent, one.server_time, one.received);
      expect([clock.roundTrip, clock.offset, clock.toServer(1_000_000)]).toEqual([one.round_trip, one.offset, one.server_time_at_1000000]);
      expect(clock.toLocal(one.server_time_at_1000000)).toBe(1_000_000);
    }
  });
});

describe("numbers", () => {
  const { kbps, gap_samples, joined_gaps, chunks, overlap_add } = read("numbers") as {
    kbps: { n_q: number; bits: number; sampling_rate: number; hop_length: number; kbps: number }[];
    gap_samples: { count: number; packet_frames: number; hop_length: number; samples: number }[];
    joined_gaps: { gaps: [Gap, Gap]; joined: Gap }[];
    chunks: { chunk_length: number; chunk_stride: number; hop_length: number; samples: number; frames: number[] }[];
    overlap_add: { stride: number; parts: number[][]; joined: number[] }[];
  };

  test.each(kbps)("$n_q codebooks of $bits bits are $kbps kbps", (one) => {
    expect(kbpsOf(one.n_q, one.bits, one.sampling_rate, one.hop_length)).toBeCloseTo(one.kbps, 9);
  });
  test.each(gap_samples)("a gap of $count packets of $packet_frames frames lasts $samples samples", (one) => {
    expect(one.count * packetSamples({ hop_length: one.hop_length, chunk_stride: null }, one.packet_frames)).toBe(one.samples);
  });
  test.each(joined_gaps)("gaps that follow each other become one: $joined.reason", ({ gaps, joined }) => {
    expect(joinedGap(...gaps)).toEqual(joined);
  });
  test.each(chunks)("$samples samples in chunks of $chunk_length", (one) => {
    expect(chunkFrames(one.chunk_length, one.chunk_stride, one.hop_length, one.samples)).toEqual(one.frames);
  });
  test.each(overlap_add)("chunks that overlap by a stride of $stride are joined", ({ stride, parts, joined }) => {
    const found = overlapAdd(stride, parts);
    expect(found.length).toBe(joined.length);
    found.forEach((sample, i) => {
      expect(sample).toBeCloseTo(joined[i] ?? NaN, 4);
    });
  });
});

test("the window follows the trips", () => {
  const { seconds, trips, before_any, steps } = read("window") as {
    seconds: number;
    trips: number;
    before_any: { round_trip_s: number; max_s: number };
    steps: { ahead_s: number; trip_s: number; round_trip_s: number; max_s: number }[];
  };
  const sender = new SendWindow(seconds, { trips });
  expect([sender.roundTripS, sender.maxS]).toEqual([before_any.round_trip_s, before_any.max_s]);
  let now = 0;
  for (const one of steps) {
    const departure = sender.depart(now, one.ahead_s);
    now += one.trip_s;
    sender.answered(departure, now);
    expect(sender.roundTripS).toBeCloseTo(one.round_trip_s, 4);
    expect(sender.maxS).toBeCloseTo(one.max_s, 4);
  }
});

describe("silence", () => {
  const { quiet, runs } = read("dtx") as {
    quiet: { n_q: number; stream_n_q: number; bits: number; quiet: boolean }[];
    runs: { packet_s: number; packets: { restart?: boolean; quiet: boolean; left_out: boolean }[] }[];
  };

  test.each(quiet)("$n_q of $stream_n_q codebooks of $bits bits", (one) => {
    expect(isQuiet(one.n_q, one.stream_n_q, one.bits)).toBe(one.quiet);
  });
  test.each(runs)("a run in packets of $packet_s s", ({ packet_s, packets }) => {
    const filter = new DtxFilter();
    for (const one of packets) {
      if (one.restart === true) filter.restart();
      else expect(filter.leavesOut(one.quiet, packet_s)).toBe(one.left_out);
    }
  });
});

describe("sessions", () => {
  interface Step {
    from: "client" | "server";
    message: Fields;
    bytes: string;
    state: string;
    next_seq?: number;
    epoch?: number;
    fault?: string;
    close?: number;
    answer?: Fields;
  }
  const { sessions } = read("sessions") as { sessions: { name: string; steps: Step[] }[] };

  test.each(sessions)("$name", ({ steps }) => {
    const [first, ...rest] = steps;
    const session = new ClientSession(messageOf(first.message) as Hello);
    expect(session.dataToSend().map(toHex)).toEqual([first.bytes]);
    for (const step of rest) {
      if (step.answer !== undefined) {
        // A client answers what was wrong of the server's; what a server answers is its own affair.
        if (step.from === "client") expect(session.dataToSend().map((data) => parse(data))).toMatchObject([step.answer]);
        continue;
      }
      if (step.fault !== undefined && step.from === "server") {
        expect(faultOf(() => session.feed(fromHex(step.bytes)))).toBe(step.fault);
        expect([session.closeCode, closeCodeOf(step.fault)]).toEqual([step.close, step.close]);
        continue;
      }
      if (step.fault !== undefined) {
        expect(
          blameFor(() => {
            session.send(messageOf(step.message));
          }),
        ).toBe(step.fault);
        expect(closeCodeOf(step.fault)).toBe(step.close);
        continue;
      }
      if (step.from === "server") expect(session.feed(fromHex(step.bytes))).toEqual(messageOf(step.message));
      else {
        session.send(messageOf(step.message));
        expect(session.dataToSend().map(toHex)).toEqual([step.bytes]);
      }
      expect(session.state).toBe(step.state);
      expect(session.closeCode).toBe(step.close ?? null);
      if (step.next_seq !== undefined) expect([session.nextSeq, session.epoch]).toEqual([step.next_seq, step.epoch]);
    }
  });
});

test("no vector is left unread", () => {
  expect(readdirSync(FOLDER).sort()).toEqual(FILES.map((name) => `${name}.json`).sort());
  const all = FILES.flatMap((name) => Object.keys(read(name) as object).map((key) => `${name}.${key}`));
  expect(all.filter((one) => !used.has(one))).toEqual([]);
});
