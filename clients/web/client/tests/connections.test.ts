// Publishers and listeners at a made-up server: connections that break are resumed, and nothing is lost or heard twice.

import { expect, test } from "vitest";
import { Listener } from "../src/index.ts";
import { FakeIo } from "./fake_io.ts";
import { listening, packet, publishing, start } from "./made_up_server.ts";

test("a listener whose connection breaks goes on behind what it has, and hears nothing twice", async () => {
  const { io, heard, answer } = listening();
  await answer(start("primed", 0), packet(0), packet(1));
  io.newest.lose();
  await io.pass(3000);
  expect(io.sockets).toHaveLength(2);
  await answer();
  expect(io.newest.got[0]).toMatchObject({ type: "hello", resume: { session: "stream", epoch: 0, next_seq: 2 } });
  io.newest.say(start("continued", 2));
  io.newest.say(packet(2));
  expect(heard.map((event) => (event.type === "packet" ? event.seq : event.type))).toEqual(["start", 0, 1, 2]);
});

test("what a resumed listener has missed for good is a gap", async () => {
  const { io, heard, listener, answer } = listening();
  await answer(start("primed", 0), packet(0));
  io.newest.lose();
  await io.pass(3000);
  await answer(start("resumed", 20, 31));
  expect(heard.map((event) => event.type)).toEqual(["start", "packet", "gap", "start"]);
  expect(heard[2]).toMatchObject({ first_seq: 1, count: 30 });
  expect(listener.lost).toBe(30);
});

test("a stream that has ended meanwhile is told as ended", async () => {
  const { io, heard, answer } = listening();
  await answer(start("primed", 0), packet(0));
  io.newest.lose();
  await io.pass(3000);
  await answer({ type: "waiting", stream: "live" });
  expect(heard.map((event) => event.type)).toEqual(["start", "packet", "stream_end", "waiting"]);
});

test("a listener reports with its first packet, and then at the latest after a quarter of a second of audio", async () => {
  const { io, answer } = listening();
  await answer(start("primed", 0), packet(0), packet(1), packet(2), packet(3));
  const reports = io.newest.got.filter((message) => message.type === "report");
  expect(reports.map((report) => report.received)).toEqual([1, 4]);
});

test("a refusal that nothing can change ends the attempts, and one that time may change does not", async () => {
  for (const [code, retry, attempts] of [
    ["unauthorized", false, 1],
    ["server_full", true, 2],
  ] as const) {
    const { io, failures } = listening();
    io.newest.open();
    io.newest.say({ type: "refuse", code, reason: "no", retry, retry_after_ms: null, go_to: null });
    await io.pass(2000);
    expect(io.sockets).toHaveLength(attempts);
    expect(failures).toHaveLength(retry ? 0 : 1);
  }
});

test("a connection on which nothing comes any more is given up and resumed", async () => {
  const { io, answer } = listening();
  await answer(start("primed", 0), packet(0));
  const first = io.newest;
  await io.pass(6000);
  expect(first.got.some((message) => message.type === "ping")).toBe(true);
  expect(first.closedWith).not.toBeNull();
  expect(io.sockets.length).toBeGreaterThan(1);
});

test("a publisher sends again what the server has not got, and its stream goes on", async () => {
  const { io, opened, publisher, answer, offer, sent } = publishing();
  await answer(0);
  offer(3);
  expect(sent()).toEqual([0, 1, 2]);
  io.newest.lose();
  offer(2);
  await io.pass(3000);
  await answer(1);
  expect(io.newest.got[0]).toMatchObject({ type: "hello", resume: { session: "secret", epoch: 0, next_seq: 5 } });
  expect(sent()).toEqual([1, 2, 3, 4]);
  expect([opened.length, publisher.resumed, publisher.droppedS]).toEqual([1, 1, 0]);
});

test("what is left out as silence is named once, before the next packet", async () => {
  const { io, publisher, answer, offer } = publishing();
  await answer(0);
  offer();
  publisher.leaveOut();
  publisher.leaveOut();
  expect(io.newest.got.map((message) => message.type)).toEqual(["hello", "packet"]);
  offer();
  expect(io.newest.got.slice(2)).toMatchObject([
    { type: "gap", first_seq: 1, count: 2, reason: "silence" },
    { type: "packet", seq: 3 },
  ]);
});

test("beyond a second of waiting audio the oldest is dropped and the server told", async () => {
  const { io, publisher, answer, offer, sent } = publishing();
  await answer(0);
  await io.pass(60);
  // The server's first pong says that it has nothing; then nothing more is answered, and a second may be under way.
  const ping = io.newest.got.find((message) => message.type === "ping");
  if (ping?.type === "ping") io.newest.say({ type: "pong", time: ping.time, server_time: 5_000_100, closing_ms: null, go_to: null });
  offer(40);
  expect(sent().length).toBeLessThan(16);
  expect(publisher.queuedS).toBeLessThanOrEqual(1);
  expect(publisher.droppedS).toBeGreaterThan(0.5);
  expect(publisher.queuedS + publisher.droppedS + 0.08 * sent().length).toBeCloseTo(40 * 0.08, 6);
});

test("what was lost before it was offered is told in its place", async () => {
  const { io, publisher, answer, offer } = publishing();
  await answer(0);
  offer();
  publisher.leaveOut();
  publisher.lose(3);
  publisher.lose(0);
  offer();
  expect(io.newest.got.slice(2)).toMatchObject([
    { type: "gap", first_seq: 1, count: 1, reason: "silence" },
    { type: "gap", first_seq: 2, count: 3, reason: "overload" },
    { type: "packet", seq: 5 },
  ]);
});

test("what an end could not send in time counts as dropped", async () => {
  const { io, publisher, answer, offer } = publishing();
  await answer(0);
  io.newest.lose();
  offer(3);
  const ending = publisher.end();
  await io.pass(2000);
  expect(await ending).toBeNull();
  expect(publisher.droppedS).toBeCloseTo(0.24, 6);
});

test("the end waits for what is queued and for the server's count", async () => {
  const { io, publisher, answer, offer } = publishing();
  await answer(0);
  offer(2);
  publisher.leaveOut();
  const ending = publisher.end();
  expect(io.newest.got.at(-1)).toEqual({ type: "end", last_seq: 2 });
  io.newest.say({ type: "ended", received: 2, emitted: 2, dropped: 0 });
  expect(await ending).toMatchObject({ received: 2 });
  expect(io.newest.closedWith).toBe(1000);
});

test("a session that somebody else has taken over is not taken back", async () => {
  const { io, failures, answer } = publishing();
  await answer(0);
  io.newest.say({ type: "error", code: "taken_over", reason: "elsewhere", go_to: null });
  await io.pass(5000);
  expect(io.sockets).toHaveLength(1);
  expect(failures).toHaveLength(1);
});

test("a stream that cannot be resumed begins anew, and what was offered meanwhile counts as dropped", async () => {
  const { io, opened, publisher, answer, offer, sent } = publishing();
  await answer(0);
  offer();
  io.newest.lose();
  offer(3);
  await io.pass(3000);
  io.newest.open();
  io.newest.say({ type: "refuse", code: "unknown_session", reason: "gone", retry: false, retry_after_ms: null, go_to: null });
  await io.pass(3000);
  await answer(0);
  expect(io.newest.got[0]).toMatchObject({ type: "hello", resume: null });
  expect([opened.length, publisher.resumed, sent()]).toEqual([2, 0, []]);
  expect(publisher.droppedS).toBeCloseTo(0.24, 6);
  offer();
  expect(sent()).toEqual([0]);
});

test("an end while the connection is being resumed still sends what waits", async () => {
  const { io, publisher, answer, offer, sent } = publishing();
  await answer(0);
  offer();
  io.newest.lose();
  offer();
  const ending = publisher.end();
  await io.pass(150);
  await answer(1);
  expect(sent()).toEqual([1]);
  expect(io.newest.got.at(-1)).toEqual({ type: "end", last_seq: 1 });
  io.newest.say({ type: "ended", received: 2, emitted: 2, dropped: 0 });
  expect(await ending).toMatchObject({ received: 2 });
});

test("who leaves while a connection is being resumed makes no more attempts, and hears nothing more", async () => {
  const { io, heard, failures, listener, answer } = listening();
  await answer(start("primed", 0), packet(0));
  io.newest.lose();
  listener.close();
  await io.pass(20_000);
  expect(io.sockets).toHaveLength(1);
  expect([heard.length, failures.length]).toEqual([2, 0]);
});

test("an address that is none is told once, and not tried again", async () => {
  const io = new FakeIo();
  const failures: Error[] = [];
  const none = () => {
    throw new SyntaxError("no address");
  };
  const events = { onWelcome: () => undefined, onEvent: () => undefined, onTrouble: () => undefined };
  new Listener(
    { now: io.now, later: io.later, socket: none },
    "nowhere",
    { stream: "live", format: "codes", model: "f00d", token: null, minBandwidth: null },
    { ...events, onFailed: (why) => failures.push(why) },
  );
  await io.pass(20_000);
  expect(failures.map((why) => why.message)).toEqual(["nowhere is no WebSocket address: SyntaxError: no address"]);
});
