// What the page and its workers say to each other.

import type { Percentiles, Stage } from "./figures.ts";
import type { Places } from "./runtime.ts";
import type { PlayoutStats } from "../../audio/src/index.ts";

/** Why something does not work: the server's code, or a word of ours, and a reason for people. */
export interface Trouble {
  readonly code: string;
  readonly reason: string;
}

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
  readonly playout: PlayoutStats | null;
  readonly packets: number;
  readonly lost: number;
  readonly silent: number;
  readonly resumed: number;
  readonly kbps: number;
  readonly bytes: number;
  readonly heardS: number;
  readonly roundTripMs: number | null;
}

export type FromListenWorker =
  | { readonly type: "ready" }
  | { readonly type: "loading"; readonly done: number; readonly total: number }
  | { readonly type: "model"; readonly bandwidths: readonly number[] }
  | { readonly type: "state"; readonly state: "waiting" | "playing" | "ended"; readonly kbps: number | null; readonly reason: string }
  | { readonly type: "fallback"; readonly reason: string }
  | { readonly type: "trouble"; readonly trouble: Trouble | null; readonly waitMs: number }
  | { readonly type: "failed"; readonly trouble: Trouble }
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
  readonly droppedS: number;
  readonly encode: Percentiles | null;
  readonly roundTripMs: number | null;
}

export type FromTalkWorker =
  | { readonly type: "ready" }
  | { readonly type: "loading"; readonly done: number; readonly total: number }
  | { readonly type: "live"; readonly kbps: number }
  | { readonly type: "fallback"; readonly reason: string }
  | { readonly type: "trouble"; readonly trouble: Trouble | null; readonly waitMs: number }
  | { readonly type: "failed"; readonly trouble: Trouble }
  | { readonly type: "stopped" }
  | TalkFigures;
