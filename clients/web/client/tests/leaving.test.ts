// A publisher at a server that closes: it leaves in order, and begins a new stream as soon as a server takes it.

import { expect, test } from "vitest";
import type { FakeIo } from "./fake_io.ts";
import { publishing } from "./made_up_server.ts";

function closes(io: FakeIo): void {
  const ping = io.newest.got.findLast((message) => message.type === "ping");
  if (ping?.type !== "ping") throw new Error("the publisher has asked nothing");
  io.newest.say({ type: "pong", time: ping.time, server_time: 5_000_100, closing_ms: 5000, go_to: "wss://other.example/" });
}

test("a publisher leaves a server that closes in order, and begins a new stream", async () => {
  const { io, opened, failures, publisher, answer, offer, sent } = publishing();
  await answer(0);
  offer(2);
  publisher.leaveOut();
  await io.pass(60);
  closes(io);
  closes(io);
  expect(io.newest.got.slice(-2)).toMatchObject([
    { type: "gap", first_seq: 2, count: 1, reason: "silence" },
    { type: "end", last_seq: 2 },
  ]);
  offer();
  publisher.lose(2);
  expect(publisher.droppedS).toBeCloseTo(0.08, 6);
  const first = io.newest;
  first.say({ type: "ended", received: 2, emitted: 2, dropped: 0 });
  expect(first.closedWith).toBe(1000);
  expect(io.sockets).toHaveLength(1);
  await io.pass(300);
  expect(io.sockets).toHaveLength(2);
  await answer(0);
  expect(io.newest.got[0]).toMatchObject({ type: "hello", resume: null });
  offer();
  expect([opened.length, failures.length, sent()]).toEqual([2, 0, [0]]);
});

test("a publisher goes from a server that closes to where that sends it, and back where it reaches nobody", async () => {
  const { io, opened, answer } = publishing();
  const tried = () => io.sockets.map(({ url }) => url);
  await answer(0);
  await io.pass(60);
  closes(io);
  io.newest.say({ type: "ended", received: 0, emitted: 0, dropped: 0 });
  await io.pass(300);
  expect(tried()).toEqual(["ws://made.up/", "wss://other.example/"]);
  io.newest.lose();
  await io.pass(500);
  expect(tried()).toEqual(["ws://made.up/", "wss://other.example/", "ws://made.up/"]);
  await answer(0);
  expect(opened.length).toBe(2);
});

test("a server that closes refuses newcomers, and a publisher tries until the next one is there", async () => {
  const { io, opened, answer, offer, sent } = publishing();
  await answer(0);
  offer();
  await io.pass(60);
  closes(io);
  io.newest.say({ type: "ended", received: 1, emitted: 1, dropped: 0 });
  await io.pass(300);
  io.newest.open();
  io.newest.say({ type: "refuse", code: "server_closing", reason: "closes", retry: true, retry_after_ms: 3000, go_to: null });
  await io.pass(4000);
  expect(io.sockets).toHaveLength(3);
  await answer(0);
  offer();
  expect([opened.length, sent()]).toEqual([2, [0]]);
});

test("a connection that breaks while a publisher leaves is resumed, and left then", async () => {
  const { io, answer, offer, sent } = publishing();
  await answer(0);
  await io.pass(60);
  offer(2);
  closes(io);
  io.newest.lose();
  await io.pass(3000);
  await answer(1);
  expect(sent()).toEqual([1]);
  expect(io.newest.got.at(-1)).toEqual({ type: "end", last_seq: 1 });
});

test("an end while a publisher leaves a server that closes waits for that server's count", async () => {
  const { io, publisher, answer, offer } = publishing();
  await answer(0);
  offer();
  await io.pass(60);
  closes(io);
  const ending = publisher.end();
  expect(io.newest.got.filter((message) => message.type === "end")).toHaveLength(1);
  io.newest.say({ type: "ended", received: 1, emitted: 1, dropped: 0 });
  expect(await ending).toMatchObject({ received: 1 });
  await io.pass(20_000);
  expect(io.sockets).toHaveLength(1);
});
