// A connection's life as a table: which messages each side may send in which state, and what state follows.

import type { Message } from "./messages.ts";

export type Side = "client" | "server";
export type State = "hello" | "publish_asked" | "listen_asked" | "publishing" | "draining" | "waiting" | "streaming" | "closed";

/** What a message is called in the table: its type, and of a hello its role. */
export type Kind = Exclude<Message["type"], "hello"> | "hello publish" | "hello listen";

export function kindOf(message: Message): Kind {
  return message.type === "hello" ? `hello ${message.role}` : message.type;
}

type Turns = Readonly<Partial<Record<Kind, State>>>;

const NOTHING: Turns = {};

export const TRANSITIONS: Readonly<Record<State, Readonly<Record<Side, Turns>>>> = {
  hello: {
    client: { "hello publish": "publish_asked", "hello listen": "listen_asked" },
    server: { refuse: "closed" },
  },
  publish_asked: { client: { error: "closed" }, server: { welcome: "publishing", refuse: "closed" } },
  listen_asked: { client: { error: "closed" }, server: { welcome: "waiting", refuse: "closed" } },
  publishing: {
    client: { packet: "publishing", gap: "publishing", end: "draining", ping: "publishing", error: "closed" },
    server: { gap: "publishing", pong: "publishing", error: "closed" },
  },
  draining: {
    client: { ping: "draining", error: "closed" },
    server: { gap: "draining", ended: "closed", pong: "draining", error: "closed" },
  },
  waiting: {
    client: { report: "waiting", ping: "waiting", error: "closed" },
    server: { waiting: "waiting", start: "streaming", pong: "waiting", error: "closed" },
  },
  streaming: {
    client: { report: "streaming", ping: "streaming", error: "closed" },
    server: {
      start: "streaming",
      packet: "streaming",
      gap: "streaming",
      stream_end: "waiting",
      pong: "streaming",
      error: "closed",
    },
  },
  closed: { client: NOTHING, server: NOTHING },
};
