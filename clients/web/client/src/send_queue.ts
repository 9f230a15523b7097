// A publisher's packets on their way out: what waits to be sent, then what was sent until the server has it; both bounded in seconds.

import { SILENCE } from "@streamcodec/protocol";

/** One packet's bytes, when its first sample was captured (us), and its codebooks: 0 where it is PCM. */
export interface Audio {
  readonly kind: "audio";
  readonly payload: Uint8Array;
  readonly captured: number;
  readonly durationS: number;
  readonly nQ: number;
}

/** So many packets will never come. */
export interface Lost {
  readonly kind: "lost";
  readonly count: number;
  readonly reason: string;
}

export type Entry = Audio | Lost;

interface Sent {
  readonly seq: number;
  readonly entry: Entry;
}

const countOf = (entry: Entry) => (entry.kind === "lost" ? entry.count : 1);
const durationOf = (entry: Entry) => (entry.kind === "audio" ? entry.durationS : 0);

const behind = ({ seq, entry }: Sent) => seq + countOf(entry);
const secondsOf = (sent: readonly Sent[]) => sent.reduce((sum, { entry }) => sum + durationOf(entry), 0);

/**
 * Entries in the order of their numbers. What was sent is kept for `keepS`, to be sent again after a connection was lost; of what was
 * acknowledged `againS` are kept, for a server that goes on from an older state than the one that has acknowledged it.
 */
export class SendQueue {
  keepS = 0;
  againS = 0;
  #waiting: Entry[] = [];
  #sent: Sent[] = [];
  #acknowledged: Sent[] = [];
  #nextSeq = 0; // behind all that was sent
  #silent = 0; // packets left out after those that wait; a gap names them before the next entry

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /** Seconds of audio that wait. */
  get waitingS(): number {
    return this.#waiting.reduce((sum, entry) => sum + durationOf(entry), 0);
  }

  /** Seconds of audio that were sent and not acknowledged. */
  get sentS(): number {
    return secondsOf(this.#sent);
  }

  /** The same without the newest packet. */
  get aheadS(): number {
    const newest = this.#sent.at(-1);
    return newest === undefined ? 0 : this.sentS - durationOf(newest.entry);
  }

  /** How many numbers the waiting entries, and the packets left out after them, will use. */
  get numbers(): number {
    return this.#waiting.reduce((sum, entry) => sum + countOf(entry), 0) + this.#silent;
  }

  add(entry: Entry): void {
    this.nameSilence();
    this.#waiting.push(entry);
  }

  /** Say that the next packet will never come because it is silence; nothing goes out for it before the next entry, or `nameSilence`. */
  leaveOut(): void {
    this.#silent++;
  }

  /** Name what was left out now: the end needs its number. */
  nameSilence(): void {
    if (this.#silent > 0) this.#waiting.push({ kind: "lost", count: this.#silent, reason: SILENCE });
    this.#silent = 0;
  }

  /** If more than `boundS` waits, drop the oldest packets, never the newest; returns the seconds dropped. */
  dropBeyond(boundS: number): number {
    const lost: Entry[] = [];
    let droppedS = 0;
    while (this.waitingS > boundS && this.#waiting.length > 1) {
      const entry = this.#waiting.shift()!;
      droppedS += durationOf(entry);
      // Silence that was left out does not count as lost.
      const reason = entry.kind === "lost" && entry.reason === SILENCE ? SILENCE : "uplink";
      const before = lost.at(-1);
      if (before?.kind === "lost" && before.reason === reason) lost[lost.length - 1] = { ...before, count: before.count + countOf(entry) };
      else lost.push({ kind: "lost", count: countOf(entry), reason });
    }
    this.#waiting.unshift(...lost);
    return droppedS;
  }

  /** Take the next entry to send; then call `sent` with its number. */
  next(): Entry | null {
    let entry = this.#waiting.shift() ?? null;
    while (entry?.kind === "lost" && this.#waiting.length > 0) {
      const after = this.#waiting[0];
      if (after.kind !== "lost" || after.reason !== entry.reason) break;
      this.#waiting.shift();
      entry = { ...entry, count: entry.count + after.count };
    }
    return entry;
  }

  /** `entry` goes out under the number `seq` (a gap: from there on). */
  sent(seq: number, entry: Entry): void {
    this.#sent.push({ seq, entry });
    this.#nextSeq = seq + countOf(entry);
    while (this.sentS > this.keepS && this.#sent.length > 1) this.#sent.shift();
  }

  /** The server has all before `nextSeq`. */
  acknowledge(nextSeq: number): void {
    while (this.#sent.length > 0 && behind(this.#sent[0]) <= nextSeq) this.#acknowledged.push(this.#sent.shift()!);
    while (this.#acknowledged.length > 0 && (this.againS === 0 || secondsOf(this.#acknowledged) > this.againS + 1e-9))
      this.#acknowledged.shift();
  }

  /** The session goes on at a server that has all before `nextSeq`: what was sent after that waits again. */
  sendAgain(nextSeq: number): void {
    this.acknowledge(nextSeq);
    const again = [...this.#acknowledged, ...this.#sent].flatMap(({ seq, entry }): Sent[] => {
      const known = Math.max(0, nextSeq - seq);
      if (known >= countOf(entry)) return [];
      return [{ seq: seq + known, entry: entry.kind === "lost" ? { ...entry, count: entry.count - known } : entry }];
    });
    const first = again.at(0)?.seq ?? this.#nextSeq;
    // More was in flight than is kept, or the server goes on from an older state than what is kept.
    const missing: Entry[] = first > nextSeq ? [{ kind: "lost", count: first - nextSeq, reason: "uplink" }] : [];
    this.#waiting.unshift(...missing, ...again.map(({ entry }) => entry));
    this.#acknowledged = this.#acknowledged.filter((sent) => behind(sent) <= nextSeq);
    this.#sent = [];
    this.#nextSeq = nextSeq;
  }
}
