// What the page and its workers say to each other.

import type { Percentiles, Stage } from "./figures.ts";
import type { Places } from "./runtime.ts";
import type { PlayoutStats } from "../../audio/src/index.ts";

/** Why something does not work: the server's code, or a word of ours, and a reason for people. */
export interface Trouble {
  readonly code: string;
  readonly reason: string;
}

/** What either worker says. */
export type FromEitherWorker =
  | { readonly type: "ready" }
  /** All is sent and closed: it may be ended. */
  | { readonly type: "stopped" }
  | { readonly type: "loading"; readonly done: number; readonly total: number }
  /** The codec runs here from now on. */
  | { readonly type: "coding" }
  /** The server codes for this page, and why. */
  | { readonly type: "fallback"; readonly reason: string }
  /** An attempt to connect failed, and the next one follows after `waitMs`; null once there is a connection again. */
  | { readonly type: "trouble"; readonly trouble: Trouble | null; readonly waitMs: number }
  | { readonly type: "failed"; readonly trouble: Trouble };

export interface ListenCommand {
  readonly type: "listen";
  readonly url: string;
  readonly stream: string;
  readonly token: string | null;
  readonly kbps: number | null;
  readonly rateOut: number;
  readonly blockS: number;
  readonly places: Places;
  readonly port: MessagePort;
}

export type ToListenWorker =
  | ListenCommand
  | { readonly type: "bandwidth"; readonly kbps: number | null }
  | { readonly type: "device"; readonly latencyS: number }
  | { readonly type: "stop" };

export interface ListenFigures {
  readonly type: "figures";
  readonly format: string;
  readonly stages: Record<Stage, Percentiles> | null;
  /** The mean delay of each stage (ms) over the packets since the figures before; null where none came. */
  readonly recent: Record<Stage, number> | null;
  readonly playout: PlayoutStats | null;
  readonly packets: number;
  readonly lost: number;
  readonly silent: number;
  readonly resumed: number;
  readonly kbps: number;
  readonly bytes: number;
  readonly pcmBytes: number;
  readonly heardS: number;
  readonly roundTripMs: number | null;
}

export type OfListenWorker =
  | { readonly type: "model"; readonly bandwidths: readonly number[] }
  | { readonly type: "state"; readonly state: "waiting" | "playing" | "ended"; readonly kbps: number | null; readonly reason: string }
  | ListenFigures;

export interface TalkCommand {
  readonly type: "talk";
  readonly url: string;
  readonly stream: string;
  readonly token: string | null;
  readonly kbps: number | null;
  readonly rateIn: number;
  /** Seconds between the ear of the microphone and its samples here. */
  readonly latencyS: number;
  readonly places: Places;
  readonly port: MessagePort;
}

export type ToTalkWorker = TalkCommand | { readonly type: "stop" };

export interface TalkFigures {
  readonly type: "figures";
  readonly format: string;
  readonly sentS: number;
  readonly kbps: number;
  readonly bytes: number;
  /** Audio (s) that was dropped here, and packets that the server dropped. */
  readonly droppedS: number;
  readonly serverDropped: number;
  readonly encode: Percentiles | null;
  readonly roundTripMs: number | null;
}

export type OfTalkWorker = { readonly type: "live"; readonly kbps: number } | TalkFigures;
