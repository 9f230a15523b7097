// A session that moves goes on at once where its server says, and one whose server is gone goes on at a server that knows it.

import { describe, expect, test } from "vitest";
import { MAX_HOPS, Route, mayFollow } from "../src/route.ts";
import { SendQueue } from "../src/index.ts";
import type { FakeIo } from "./fake_io.ts";
import { settled } from "./fake_io.ts";
import { listening, packet, publishing, start } from "./made_up_server.ts";

const HERE = "ws://here/";
const THERE = "ws://there/";

const moved = (goTo: string | null) => ({ type: "error", code: "moved", reason: "elsewhere", go_to: goTo }) as const;
const refused = (code: string, retry: boolean, goTo: string | null = null) =>
  ({ type: "refuse", code, reason: "no", retry, retry_after_ms: null, go_to: goTo }) as const;

const tried = (io: FakeIo) => io.sockets.map(({ url }) => url);

describe.each(["codes", "pcm_s16le"] as const)("of %s", (format) => {
  test("a publisher whose session moves goes on at once, and sends what is missing there", async () => {
    const { io, opened, publisher, answer, offer, sent } = publishing({ url: HERE, format });
    await answer(0);
    offer(5);
    io.newest.say(moved(THERE));
    await settled();
    expect(tried(io)).toEqual([HERE, THERE]);
    offer(1);
    await answer(3);
    expect(io.newest.got[0]).toMatchObject({ can_move: true, resume: { session: "secret", epoch: 0, next_seq: 5 } });
    expect(sent()).toEqual([3, 4, 5]);
    expect([opened.length, publisher.resumed, publisher.droppedS]).toEqual([1, 1, 0]);
  });

  test("a listener whose session moves hears nothing twice and keeps its decoder", async () => {
    const { io, heard, listener, answer } = listening({ url: HERE, format });
    await answer(start("primed", 0, 0, "stream", format), packet(0, format), packet(1, format));
    io.newest.say(moved(THERE));
    await settled();
    expect(tried(io)).toEqual([HERE, THERE]);
    await answer(start("continued", 2, 2, "stream", format), packet(2, format));
    expect(io.newest.got[0]).toMatchObject({ can_move: true, resume: { session: "stream", epoch: 0, next_seq: 2 } });
    expect(heard.map((event) => (event.type === "packet" ? event.seq : event.type))).toEqual(["start", 0, 1, 2]);
    expect([listener.resumed, listener.lost]).toEqual([1, 0]);
  });
});

test("a session whose server is gone goes on at the first alternate that answers", async () => {
  const { io, publisher, answer, offer, sent } = publishing({ url: HERE, alternates: ["ws://dead/", THERE] });
  await answer(0);
  offer(3);
  for (let i = 0; i < 3; i++) {
    io.newest.lose();
    await io.pass(100);
  }
  expect(tried(io)).toEqual([HERE, HERE, "ws://dead/", THERE]);
  await answer(2);
  expect([sent(), publisher.resumed]).toEqual([[2], 1]);
});

test("a listener goes on at an alternate, and the next time it begins there", async () => {
  const { io, heard, answer } = listening({ url: HERE, alternates: [THERE] });
  await answer(start("primed", 0), packet(0));
  io.newest.lose();
  await io.pass(100);
  io.newest.lose();
  await settled();
  await answer(start("continued", 1), packet(1));
  io.newest.lose();
  await io.pass(100);
  await answer(start("continued", 2), packet(2));
  expect(tried(io)).toEqual([HERE, HERE, THERE, THERE]);
  expect(heard.map((event) => (event.type === "packet" ? event.seq : event.type))).toEqual(["start", 0, 1, 2]);
});

test("servers are tried in turn within the time that the session is kept, and then the one that was given", async () => {
  const { io, heard, answer } = listening({ url: HERE, alternates: [THERE] });
  await answer(start("primed", 0));
  const begun = io.nowUs;
  io.newest.lose();
  await io.pass(9_900);
  expect(tried(io).slice(0, 4)).toEqual([HERE, HERE, THERE, HERE]);
  expect(heard.map(({ type }) => type)).toEqual(["start"]);
  await io.pass(10_000);
  expect(heard.map(({ type }) => type)).toEqual(["start", "stream_end"]);
  expect(io.newest.url).toBe(HERE);
  expect(io.nowUs - begun).toBeGreaterThan(10_000_000);
});

test("a session that has moved to where nobody is goes on where it was", async () => {
  const { io, answer } = listening({ url: HERE });
  await answer(start("primed", 0), packet(0));
  io.newest.say(moved(THERE));
  await settled();
  io.newest.lose();
  await io.pass(100);
  expect(tried(io)).toEqual([HERE, THERE, HERE]);
  expect((await answered(io)).resume).toMatchObject({ next_seq: 1 });

  async function answered({ newest }: FakeIo) {
    newest.open();
    await settled();
    const [hello] = newest.got;
    if (hello.type !== "hello") throw new Error(hello.type);
    return hello;
  }
});

test("servers that send a session to and fro are followed only so often, and then the one that was given is tried", async () => {
  const { io, heard, failures, answer } = listening({ url: HERE });
  await answer(start("primed", 0));
  io.newest.say(moved(THERE));
  await settled();
  for (let i = 1; i < MAX_HOPS; i++) {
    await answer();
    io.newest.say(moved(i % 2 === 0 ? THERE : HERE));
    await settled();
  }
  expect(io.sockets).toHaveLength(1 + MAX_HOPS);
  await answer();
  io.newest.say(moved(THERE));
  await settled();
  expect(tried(io).at(-1)).toBe(HERE);
  expect(io.newest.got).toEqual([]);
  io.newest.open();
  expect(io.newest.got[0]).toMatchObject({ resume: null });
  expect([io.sockets.length, failures.length, heard.at(-1)?.type]).toEqual([2 + MAX_HOPS, 0, "stream_end"]);
});

test("a session that is over begins anew at once at the server that says so", async () => {
  const { io, opened, answer, offer, sent } = publishing({ url: HERE, alternates: [THERE] });
  await answer(0);
  offer();
  io.newest.lose();
  await io.pass(100);
  io.newest.lose();
  await settled();
  io.newest.open();
  io.newest.say(refused("unknown_session", false));
  await settled();
  expect(tried(io)).toEqual([HERE, HERE, THERE, THERE]);
  await answer(0);
  expect(io.newest.got[0]).toMatchObject({ resume: null });
  offer();
  expect([opened.length, sent()]).toEqual([2, [0]]);
});

test("what one server refuses is asked of the next one, and who says no for good is not asked again", async () => {
  const { io, answer } = listening({ url: HERE, alternates: ["ws://no/", "ws://full/"] });
  await answer(start("primed", 0));
  io.newest.lose();
  await io.pass(100);
  io.newest.lose();
  await settled();
  for (const [code, retry] of [
    ["unauthorized", false],
    ["server_full", true],
  ] as const) {
    io.newest.open();
    io.newest.say(refused(code, retry));
    await settled();
  }
  await io.pass(200);
  io.newest.lose();
  await settled();
  expect(tried(io)).toEqual([HERE, HERE, "ws://no/", "ws://full/", HERE, "ws://full/"]);
});

test("a newcomer goes on where a full server sends it, and back where nobody is there", async () => {
  const { io, answer, failures } = listening({ url: HERE });
  io.newest.open();
  io.newest.say(refused("server_full", true, THERE));
  await io.pass(250);
  io.newest.lose();
  await io.pass(500);
  expect(tried(io)).toEqual([HERE, THERE, HERE]);
  await answer();
  expect(failures).toEqual([]);
});

test("an address that cannot be used leaves the session where it was, and one that is none breaks the rules", async () => {
  for (const goTo of [null, "ws://:80", "ws://b:99999", "ws://[::1", "ws://user@b", "ws://b#c"]) {
    const { io, answer } = listening({ url: HERE });
    await answer(start("primed", 0));
    io.newest.say(moved(goTo));
    await io.pass(100);
    expect(tried(io)).toEqual([HERE, HERE]);
  }
  const { io, answer, failures } = listening({ url: HERE });
  await answer(start("primed", 0));
  expect(() => {
    io.newest.say(moved("http://b"));
  }).toThrow("go_to is");
  expect(failures).toEqual([]);
});

test("neither a session that moves nor an alternate leaves encryption", async () => {
  const { io, answer } = listening({ url: "wss://here/", alternates: ["ws://plain/", "wss://there/"] });
  await answer(start("primed", 0));
  io.newest.say(moved("ws://plain/"));
  await io.pass(100);
  io.newest.lose();
  await settled();
  expect(tried(io)).toEqual(["wss://here/", "wss://here/", "wss://there/"]);
  io.newest.open();
  io.newest.say(refused("moved", true, "ws://plain/"));
  await io.pass(200);
  expect(io.newest.url).toBe("wss://here/");
});

test.each([
  ["ws://a", "ws://b", true],
  ["ws://a", "wss://b:1/c?d=e", true],
  ["wss://a", "wss://[::1]:1", true],
  ["wss://a", "ws://a", false],
  ["ws://a", "http://b", false],
  ["ws://a", "ws://", false],
  ["ws://a", "ws://b:0", false],
  ["ws://a", "ws://b:port", false],
  ["ws://a", "ws://b:65536", false],
  ["ws://a", "ws://user@b", false],
  ["ws://a", "ws://b#c", false],
])("from %s to %s: %s", (at, goTo, may) => {
  expect(mayFollow(at, goTo)).toBe(may);
});

test("the alternates of the last welcome hold, and no address is tried twice a round", () => {
  const route = new Route("ws://a");
  route.reached("ws://b", ["ws://c", "ws://a", "ws://b"]);
  expect(route.round()).toEqual(["ws://b", "ws://c", "ws://a"]);
  route.leaveOut("ws://c");
  expect(route.round()).toEqual(["ws://b", "ws://a"]);
  route.reached("ws://a", ["ws://c"]);
  expect(route.round()).toEqual(["ws://a", "ws://c"]);
});

test("hops are counted until a connection has lasted", () => {
  const route = new Route("ws://a");
  for (let i = 0; i < MAX_HOPS; i++) expect(route.follow("ws://b")).toBe(true);
  expect(route.follow("ws://b")).toBe(false);
  route.lasted();
  expect(route.follow("ws://b")).toBe(true);
});

test("what was acknowledged is sent again to a server that goes on from an older state, as far as it is kept", () => {
  for (const [againS, waiting] of [
    [3, [2, 3, 4]],
    [0.16, ["lost", 3, 4]],
    [0, ["lost"]],
  ] as const) {
    const queue = new SendQueue();
    queue.keepS = 10;
    queue.againS = againS;
    for (let seq = 0; seq < 5; seq++) {
      queue.add({ kind: "audio", payload: new Uint8Array([seq]), captured: 0, durationS: 0.08, nQ: 8 });
      queue.sent(seq, queue.next()!);
    }
    queue.acknowledge(5);
    expect(queue.sentS).toBe(0);
    queue.sendAgain(2);
    const found = [];
    for (let entry = queue.next(); entry !== null; entry = queue.next()) found.push(entry.kind === "lost" ? "lost" : entry.payload[0]);
    expect(found).toEqual(waiting);
  }
});

test("a gap that a server has in part is sent again from there", () => {
  const queue = new SendQueue();
  queue.keepS = 10;
  queue.againS = 3;
  queue.add({ kind: "lost", count: 4, reason: "overload" });
  queue.sent(0, queue.next()!);
  queue.acknowledge(4);
  queue.sendAgain(3);
  expect(queue.next()).toMatchObject({ kind: "lost", count: 1, reason: "overload" });
});
