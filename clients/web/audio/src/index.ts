// Playout and resampling without a device: samples and times in, samples out.

export { AdaptivePlayout, DEFAULT_POLICY } from "./adaptive.ts";
export type { PacketTimes, PlayoutPolicy, PlayoutStats } from "./adaptive.ts";
export { ComfortNoise } from "./comfort_noise.ts";
export { DriftResampler } from "./drift.ts";
export { PlayoutMemory } from "./memory.ts";
export type { SharedPlayout } from "./memory.ts";
export { fadeIn, joined } from "./numbers.ts";
export { PlayoutReader } from "./reader.ts";
