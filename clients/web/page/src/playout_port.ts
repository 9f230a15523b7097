// What goes between the worker that decodes and the audio thread.

import type { PacketTimes, PlayoutStats, SharedPlayout } from "../../audio/src/index.ts";

/** To the audio thread: shared memory to play from; or, without any, a playout to open and packets for it. */
export type PlayoutInput =
  | { readonly type: "memory"; readonly shared: SharedPlayout }
  | { readonly type: "open"; readonly rateIn: number; readonly blockS: number }
  | { readonly type: "push"; readonly samples: Float32Array; readonly times: PacketTimes | null; readonly quiet: boolean }
  | { readonly type: "silence" };

/** From the page: where such messages come from. */
export interface PlayoutStarted {
  readonly port: MessagePort;
}

/** From the audio thread, behind each pushed packet. */
export interface PlayoutAnswer {
  readonly aheadS: number;
  readonly stats: PlayoutStats | undefined;
}
