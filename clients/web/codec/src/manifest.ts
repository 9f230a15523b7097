// What an exported model's manifest says (`streamcodec export`): its files, what streams start from, and what packets hold.

export interface BandwidthEntry {
  readonly kbps: number;
  readonly n_q: number;
  /** The steps' files. */
  readonly encoder: string;
  readonly decoder: string;
}

export interface Step {
  readonly codebooks: number;
  readonly weights: readonly string[];
}

export interface Manifest {
  readonly format: string;
  readonly version: number;
  readonly name: string;
  readonly fingerprint: string;
  readonly weights_fingerprint: string;
  readonly sampling_rate: number;
  readonly hop_length: number;
  readonly codebook_size: number;
  readonly bits_per_code: number;
  readonly packet_frames: { readonly default: number; readonly min: number; readonly max: number };
  readonly bandwidths: readonly BandwidthEntry[];
  readonly default_bandwidth: number;
  readonly states: {
    readonly file: string;
    /** Offsets in bytes; null where a stream cannot start so. */
    readonly encoder: { readonly size: number; readonly exact: number | null; readonly primed: number | null };
    readonly decoder: { readonly size: number; readonly exact: number | null; readonly primed: Readonly<Record<string, number>> };
  };
  readonly steps: Readonly<Record<string, Step>>;
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
}

/** The manifest in JSON. Throws an `Error` for a format or version that this program does not know. */
export function readManifest(json: unknown): Manifest {
  const found = json as Partial<Manifest> | null;
  if (found?.format !== "streamcodec-onnx" || found.version !== 1) {
    throw new Error(`the model's manifest is ${String(found?.format)} ${String(found?.version)}, expected streamcodec-onnx 1`);
  }
  return found as Manifest;
}

/** The bandwidth with exactly, or the next with more than, `nQ` codebooks; the highest where none has so many. */
export function bandwidthFor(manifest: Manifest, nQ: number): BandwidthEntry {
  return manifest.bandwidths.find((one) => one.n_q >= nQ) ?? manifest.bandwidths[manifest.bandwidths.length - 1];
}

/** The files that a step needs: itself, its weights, and the states that streams start from. */
export function filesOf(manifest: Manifest, step: string): string[] {
  return [step, ...manifest.steps[step].weights, manifest.states.file];
}
