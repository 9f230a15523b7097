// A client's end of one connection, without its socket and without a clock. Three verbs: `feed` takes one WebSocket message and returns what
// it means, methods queue messages, `dataToSend` hands them over. Each message, sent or received, goes through one table of legal
// transitions and one count of sequence numbers.

import { LocalProtocolError, NORMAL_CLOSURE, RemoteProtocolError, closeCodeOf } from "./errors.ts";
import { afterGap } from "./gaps.ts";
import { MAX_EPOCH, MAX_PACKET_FRAMES, MAX_TEXT, parse, serialize } from "./messages.ts";
import type { End, Gap, Hello, Message, Packet, Report, StreamStart, Welcome } from "./messages.ts";
import { PayloadRule } from "./payloads.ts";
import { wrapTimestamp } from "./clock.ts";
import { TRANSITIONS, kindOf } from "./transitions.ts";
import type { Side, State } from "./transitions.ts";

/**
 * A client's end; its hello is queued from the start.
 *
 * `nextSeq` and `epoch` are the next packet's, once `welcome` (publisher) or `start` (listener) has set them. `closeCode` is what to close the
 * WebSocket with, null while the session is open.
 */
export class ClientSession {
  readonly hello: Hello;
  welcome: Welcome | null = null;
  start: StreamStart | null = null;
  state: State = "hello";
  nextSeq = 0;
  epoch = 0;
  closeCode: number | null = null;
  #streamed = false;
  #epochIsOver = false;
  #payloads: PayloadRule | null = null;
  #outgoing: Uint8Array[] = [];

  constructor(hello: Hello) {
    this.hello = hello;
    this.send(hello);
  }

  /** Whether a stream runs for this listener, or did until the session was closed. */
  get streamed(): boolean {
    return this.#streamed;
  }

  /**
   * Take one WebSocket message; returns what it says, or null once the session is closed, which ignores all that comes.
   *
   * Throws `RemoteProtocolError` for what the protocol does not allow: then the answer to it is queued and the session is closed.
   */
  feed(data: Uint8Array | string): Message | null {
    if (this.state === "closed") return null;
    try {
      if (typeof data === "string") {
        throw new RemoteProtocolError("bad_message", `a text message of ${data.length} characters, expected binary messages only`);
      }
      const message = parse(data);
      this.#apply(message, "server");
      return message;
    } catch (error) {
      if (error instanceof RemoteProtocolError) this.fail(error);
      throw error;
    }
  }

  /** The WebSocket messages queued since the last call, each to be sent as one binary message. */
  dataToSend(): Uint8Array[] {
    const outgoing = this.#outgoing;
    this.#outgoing = [];
    return outgoing;
  }

  /** Close for `error`, telling the server why; returns the code to close the WebSocket with. Our own fault is told without details. */
  fail(error: unknown): number {
    if (this.closeCode !== null) return this.closeCode;
    const told = error instanceof RemoteProtocolError ? error : new RemoteProtocolError("internal", "internal error");
    if (TRANSITIONS[this.state].client.error !== undefined)
      this.send({ type: "error", code: told.code, reason: clipped(told.message), go_to: null });
    return closeCodeOf(told.code);
  }

  /** Queue any message that a client may send now. Throws `LocalProtocolError`. */
  send(message: Message): void {
    const data = serialize(message);
    try {
      this.#apply(message, "client");
    } catch (error) {
      throw error instanceof RemoteProtocolError ? new LocalProtocolError(error.message, { cause: error }) : error;
    }
    this.#outgoing.push(data);
  }

  /**
   * Queue the publisher's next packet and return it: number and epoch are filled in.
   *
   * `timestamp` is the server's clock (us) when the first sample was captured; `newEpoch` says that the encoder started afresh with this packet.
   * `nQ` is how many codebooks it has, by default the welcome's; 0 for PCM.
   */
  sendPacket(payload: Uint8Array, timestamp: number, options: { readonly newEpoch?: boolean; readonly nQ?: number } = {}): Packet {
    const nQ = options.nQ ?? (this.hello.format === "codes" ? (this.welcome?.n_q ?? 0) : 0);
    const epoch = options.newEpoch === true ? following(this.epoch) : this.epoch;
    const packet: Packet = { type: "packet", seq: this.nextSeq, epoch, timestamp: Math.floor(wrapTimestamp(timestamp)), n_q: nQ, payload };
    this.send(packet);
    return packet;
  }

  /** Say that the next `count` packets of this publisher will never come. */
  sendGap(count: number, reason: string): void {
    this.send({ type: "gap", first_seq: this.nextSeq, count, reason: clipped(reason) });
  }

  /** Say that the publisher is done; the server answers `ended`. */
  end(): void {
    const unused = this.welcome === null || this.nextSeq === this.welcome.next_seq;
    this.send({ type: "end", last_seq: unused ? null : this.nextSeq - 1 });
  }

  /** Say how this listener fares; what is not given is null. */
  report(how: Partial<Omit<Report, "type" | "received">> = {}): void {
    this.send({ type: "report", received: this.nextSeq, played: null, margin_ms: null, late_ms: null, bandwidth: null, ...how });
  }

  /** Ask for the server's time; `time` is ours (us) and comes back in the pong. */
  ping(time: number): void {
    this.send({ type: "ping", time });
  }

  #apply(message: Message, sender: Side): void {
    const after = TRANSITIONS[this.state][sender][kindOf(message)];
    if (after === undefined) {
      throw new RemoteProtocolError("out_of_turn", `the ${sender} sent ${message.type}, not allowed while ${this.state}`);
    }
    switch (message.type) {
      case "packet":
        this.#takePacket(message);
        break;
      case "gap":
        this.#takeGap(message, sender);
        break;
      case "welcome":
        this.#takeWelcome(message);
        break;
      case "start":
        this.#takeStart(message);
        break;
      case "stream_end":
        this.#expectSeq("stream_end: next_seq", message.next_seq);
        break;
      case "end":
        this.#takeEnd(message);
        break;
      case "ended":
        this.closeCode = NORMAL_CLOSURE;
        break;
      case "refuse":
      case "error":
        this.closeCode = closeCodeOf(message.code);
        break;
      case "hello":
      case "waiting":
      case "report":
      case "ping":
      case "pong":
        break;
    }
    this.state = after;
    if (after !== "closed") this.#streamed = after === "streaming";
  }

  #takeWelcome(welcome: Welcome): void {
    for (const name of ["role", "stream", "format"] as const) {
      if (welcome[name] !== this.hello[name]) {
        throw new RemoteProtocolError("bad_request", `welcome: ${name} is ${welcome[name]}, expected ${this.hello[name]} as in the hello`);
      }
    }
    const { fingerprint } = welcome.model;
    if (this.hello.model !== null && this.hello.model !== fingerprint) {
      throw new RemoteProtocolError("model_mismatch", `welcome: the model is ${fingerprint}, expected ${this.hello.model} as in the hello`);
    }
    this.welcome = welcome;
    this.nextSeq = welcome.next_seq ?? 0;
    this.epoch = welcome.epoch ?? 0;
    if (this.hello.role === "publish") this.#payloads = PayloadRule.ofPublisher(this.hello, welcome);
  }

  #takeStart(start: StreamStart): void {
    const welcome = this.#welcomed();
    if (start.format !== welcome.format) {
      throw new RemoteProtocolError("bad_request", `start: format is ${start.format}, expected ${welcome.format}`);
    }
    if (start.packet_frames > MAX_PACKET_FRAMES && welcome.model.chunk_length === null) {
      throw new RemoteProtocolError(
        "bad_request",
        `start: packet_frames is ${start.packet_frames}, expected at most ${MAX_PACKET_FRAMES} without chunks`,
      );
    }
    if (start.start === "continued") this.#checkContinued(start);
    else if (this.state === "streaming") this.#expectSeq("start: live_seq", start.live_seq);
    this.start = start;
    this.nextSeq = start.first_seq;
    this.epoch = start.epoch;
    this.#payloads = PayloadRule.ofListener(welcome, start);
  }

  #checkContinued(start: StreamStart): void {
    const asked = this.start === null ? this.hello.resume : null;
    if (asked === null || start.session !== asked.session || start.epoch !== asked.epoch || start.first_seq !== asked.next_seq) {
      throw new RemoteProtocolError("bad_sequence", "start: it continues what the hello did not ask to resume");
    }
  }

  #takeGap(gap: Gap, sender: Side): void {
    if (sender === "server" && this.state !== "streaming") {
      const first = this.#welcomed().next_seq ?? 0;
      if (gap.first_seq < first || afterGap(gap) > this.nextSeq) {
        throw new RemoteProtocolError(
          "bad_sequence",
          `gap: packets ${gap.first_seq} to ${afterGap(gap) - 1} are dropped, but ${first} to ${this.nextSeq - 1} were sent`,
        );
      }
    } else {
      this.#expectSeq("gap: first_seq", gap.first_seq);
      this.nextSeq = afterGap(gap);
    }
  }

  #takeEnd(end: End): void {
    const last = this.nextSeq === this.#welcomed().next_seq ? null : this.nextSeq - 1;
    // Of a stream that was resumed the last number may be of the connection before.
    const resumed = last === null && this.hello.resume !== null;
    if (end.last_seq !== last && !(resumed && end.last_seq === this.nextSeq - 1)) {
      throw new RemoteProtocolError("bad_sequence", `end: last_seq is ${end.last_seq}, expected ${last}`);
    }
  }

  #takePacket(packet: Packet): void {
    const publishing = this.state === "publishing";
    this.#expectSeq("packet: seq", packet.seq);
    const newEpoch = packet.epoch !== this.epoch;
    if (newEpoch && !(publishing && packet.epoch === following(this.epoch))) {
      const expected = publishing ? `${this.epoch} or ${following(this.epoch)}` : `${this.epoch} until a start message`;
      throw new RemoteProtocolError("bad_sequence", `packet ${packet.seq}: epoch is ${packet.epoch}, expected ${expected}`);
    }
    if (publishing && this.#epochIsOver && !newEpoch) {
      throw new RemoteProtocolError(
        "bad_payload",
        `packet ${packet.seq} follows a short packet in epoch ${this.epoch}, expected a new epoch or the end`,
      );
    }
    this.#epochIsOver = this.#payloads?.check(packet) ?? false;
    this.nextSeq = packet.seq + 1;
    this.epoch = packet.epoch;
  }

  #expectSeq(what: string, seq: number): void {
    if (seq === this.nextSeq) return;
    const fault = seq > this.nextSeq ? `${seq - this.nextSeq} are missing without a gap message` : "numbers never go back";
    throw new RemoteProtocolError("bad_sequence", `${what} is ${seq}, expected ${this.nextSeq}: ${fault}`);
  }

  #welcomed(): Welcome {
    if (this.welcome === null) throw new LocalProtocolError("no welcome has come yet");
    return this.welcome;
  }
}

function following(epoch: number): number {
  return (epoch + 1) % (MAX_EPOCH + 1);
}

function clipped(reason: string): string {
  const bytes = new TextEncoder().encode(reason).subarray(0, MAX_TEXT);
  // A character that was cut becomes a replacement, which is longer than what is left of it.
  return new TextDecoder().decode(bytes).replace(/\uFFFD+$/, "");
}
