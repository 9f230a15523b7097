// The wire of streamcodec.v1, without sockets: messages, packed codes, and a client's end as a state machine. See PROTOCOL.md.

export * from "./chunks.ts";
export * from "./clock.ts";
export * from "./dtx.ts";
export * from "./errors.ts";
export * from "./gaps.ts";
export * from "./messages.ts";
export * from "./packing.ts";
export { PayloadRule, bitsPerCode, packetFrames } from "./payloads.ts";
export { ClientSession } from "./sessions.ts";
export { TRANSITIONS, kindOf } from "./transitions.ts";
export type { Kind, Side, State } from "./transitions.ts";
export * from "./window.ts";
