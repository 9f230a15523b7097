// `main.mjs vectors FOLDER` checks this client by PROTOCOL.md's test vectors; `main.mjs listen URL STREAM FORMAT [FINGERPRINT]` hears one
// stream to its end. Either prints one object of JSON.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as sc from "./streamcodec.mjs";

const near = (found, wanted) => assert.ok(Math.abs(found - wanted) < 1e-4, `${found} is not ${wanted}`);
const message = (fields) => (fields.type === "packet" ? { ...fields, payload: sc.fromHex(fields.payload) } : fields);
const fault = (act) => {
  try {
    act();
  } catch (error) {
    if (error instanceof sc.Fault) return error.code;
    throw error;
  }
  return null;
};

function checkVectors(folder) {
  const read = (name) => JSON.parse(readFileSync(join(folder, name + ".json"), "utf-8"));
  const cases = {};
  const each = (what, list, check) => {
    for (const one of list) {
      try {
        check(one);
      } catch (error) {
        error.message = `${what}: ${one.name ?? JSON.stringify(one).slice(0, 200)}: ${error.message}`;
        throw error;
      }
    }
    cases[what] = list.length;
  };

  const messages = read("messages");
  each("messages both ways", messages.both_ways, (one) => {
    assert.deepEqual(sc.parse(sc.fromHex(one.bytes)), message(one.message));
    assert.equal(sc.toHex(sc.serialize(message(one.message))), one.bytes);
  });
  each("messages to read", messages.read_only, (one) => assert.deepEqual(sc.parse(sc.fromHex(one.bytes)), message(one.message)));
  each("messages to refuse", messages.refused, (one) => assert.equal(fault(() => sc.parse(sc.fromHex(one.bytes))), one.code));

  const payloads = read("payloads");
  each("payloads", payloads.packed, (one) => {
    const payload = sc.fromHex(one.bytes);
    assert.deepEqual(sc.unpackCodes(payload, one.n_q, one.bits), one.codes);
    assert.equal(sc.toHex(sc.packCodes(one.codes, one.bits)), one.bytes);
    for (const [n_q, size] of Object.entries(one.prefixes))
      assert.deepEqual(sc.unpackCodes(payload.subarray(0, size), Number(n_q), one.bits), one.codes.slice(0, Number(n_q)));
  });
  each("payloads to refuse", payloads.refused, (one) =>
    assert.equal(fault(() => sc.unpackCodes(sc.fromHex(one.bytes), one.n_q, one.bits)), "bad_payload"),
  );
  each("payloads with a scale", payloads.scaled, (one) => {
    const payload = sc.fromHex(one.bytes);
    assert.deepEqual(sc.unpackScaled(payload, one.n_q, one.bits), [one.scale, one.codes]);
    assert.equal(sc.toHex(sc.packScaled(one.scale, one.codes, one.bits)), one.bytes);
    for (const [n_q, size] of Object.entries(one.prefixes))
      assert.deepEqual(sc.unpackScaled(payload.subarray(0, size), Number(n_q), one.bits), [one.scale, one.codes.slice(0, Number(n_q))]);
  });
  each("payloads with a scale to refuse", payloads.refused_scaled, (one) =>
    assert.equal(fault(() => sc.unpackScaled(sc.fromHex(one.bytes), one.n_q, one.bits)), "bad_payload"),
  );

  const clock = read("clock");
  const estimate = new sc.Clock();
  each("timestamps", clock.unwrapped, (one) => assert.equal(sc.unwrap(one.timestamp, one.now), one.time));
  each("exchanges", clock.exchanges, (one) => {
    estimate.update(one.sent, one.server_time, one.received);
    assert.deepEqual(estimate.best, [one.round_trip, one.offset]);
    assert.equal(1_000_000 + estimate.best[1], one.server_time_at_1000000);
  });

  const numbers = read("numbers");
  each("kbps", numbers.kbps, (one) => near(sc.kbpsOf(one.n_q, one.bits, one.sampling_rate, one.hop_length), one.kbps));
  each("gaps in samples", numbers.gap_samples, (one) => assert.equal(one.count * one.packet_frames * one.hop_length, one.samples));
  each("chunks", numbers.chunks, (one) =>
    assert.deepEqual(sc.chunkFrames(one.chunk_length, one.chunk_stride, one.hop_length, one.samples), one.frames),
  );
  each("overlap-add", numbers.overlap_add, (one) => {
    const joined = sc.overlapAdd(one.stride, one.parts);
    assert.equal(joined.length, one.joined.length);
    joined.forEach((sample, i) => near(sample, one.joined[i]));
  });
  each("gaps joined", numbers.joined_gaps, (one) => assert.deepEqual(sc.joined(...one.gaps), one.joined));

  const window = read("window");
  const sender = new sc.Window(window.seconds, window.trips);
  near(sender.max, window.before_any.max_s);
  each("window", window.steps, (one) => {
    sender.answered(one.ahead_s, one.trip_s);
    near(sender.roundTrip, one.round_trip_s);
    near(sender.max, one.max_s);
  });

  const dtx = read("dtx");
  each("quiet packets", dtx.quiet, (one) => assert.equal(sc.isQuiet(one.n_q, one.stream_n_q, one.bits), one.quiet));
  each("runs of silence", dtx.runs, (run) => {
    let filter = new sc.Dtx();
    for (const one of run.packets)
      if (one.restart) filter = new sc.Dtx();
      else assert.equal(filter.leavesOut(one.quiet, run.packet_s), one.left_out);
  });

  each("sessions", read("sessions").sessions, (script) => {
    const session = new sc.Session();
    for (const step of script.steps) {
      if (step.answer) continue;
      const bytes = sc.fromHex(step.bytes);
      assert.equal(sc.toHex(sc.serialize(message(step.message))), step.bytes);
      const broke = fault(() => session.apply(step.from, sc.parse(bytes)));
      assert.equal(broke, step.fault ?? null);
      if (broke) assert.equal(sc.closeCode(broke), step.close);
      else {
        assert.equal(session.state, step.state);
        assert.equal(session.close, step.close ?? null);
        if ("next_seq" in step) assert.deepEqual([session.next, session.epoch], [step.next_seq, step.epoch]);
      }
    }
  });
  return cases;
}

function listen(url, stream, format, fingerprint = null) {
  const heard = { starts: 0, packets: 0, samples: 0, lost: 0, silent: 0, codes: [], server_clock_seen: false, close: null };
  const session = new sc.Session();
  const socket = new WebSocket(url, ["streamcodec.v1"]);
  socket.binaryType = "arraybuffer";
  const send = (m) => {
    const bytes = sc.serialize(m);
    session.apply("client", sc.parse(bytes));
    socket.send(bytes);
  };
  // The answer to the ping may come behind a short stream's end.
  const leave = (seen) => {
    Object.assign(heard, seen);
    if (heard.answered && heard.ended) socket.close(1000);
  };
  socket.onopen = () => send({ type: "hello", version: 1, role: "listen", stream, format, model: fingerprint });
  return new Promise((resolve, reject) => {
    socket.onerror = (event) => reject(new Error(event.message ?? "no connection"));
    socket.onclose = (event) => resolve({ ...heard, close: event.code });
    socket.onmessage = ({ data }) => {
      const m = sc.parse(new Uint8Array(data));
      session.apply("server", m);
      const { start, welcome } = session;
      const packet = () => start.packet_samples ?? start.packet_frames * welcome.model.hop_length;
      if (m.type === "welcome") send({ type: "ping", time: 7 });
      else if (m.type === "pong") leave({ answered: true, server_clock_seen: m.time === 7 && m.server_time > 0 });
      else if (m.type === "start") heard.starts++;
      else if (m.type === "gap") {
        heard[m.reason === "silence" ? "silent" : "lost"] += m.count;
        if (m.first_seq >= start.live_seq) heard.samples += m.count * packet();
      } else if (m.type === "packet") {
        heard.packets++;
        if (format === "codes") {
          const [, codes] = sc.unpackScaled(m.payload, m.n_q, Math.log2(welcome.model.codebook_size), welcome.model.normalize);
          heard.codes.push(codes);
          const samples = codes[0].length * welcome.model.hop_length;
          if (m.seq >= start.live_seq) heard.samples += Math.min(samples, welcome.model.chunk_stride ?? samples);
        } else if (m.seq >= start.live_seq) heard.samples += m.payload.length / (format === "pcm_s16le" ? 2 : 4) / start.channels;
        send({ type: "report", received: session.next, played: null, margin_ms: null, late_ms: null, bandwidth: null });
      } else if (m.type === "stream_end") leave({ ended: true });
      else if (m.type === "refuse" || m.type === "error") Object.assign(heard, { code: m.code, retry: m.retry });
    };
  });
}

const [verb, ...rest] = process.argv.slice(2);
console.log(JSON.stringify(verb === "vectors" ? checkVectors(...rest) : await listen(...rest)));
