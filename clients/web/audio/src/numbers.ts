// Arithmetic as Python does it, so that the same arrivals give the same decisions.

/** Rounded to the nearest whole number, halves to the even one. */
export function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

/** The smallest of the values that a `share` of them do not exceed; no interpolation. */
export function quantile(values: readonly number[], share: number): number {
  const ordered = values.toSorted((a, b) => a - b);
  return ordered[Math.ceil((ordered.length - 1) * share)] ?? 0;
}

/** Gains that rise from 0 to 1, both excluded; the reverse is a fade-out, and both sum to one. */
export function fadeIn(samples: number): Float32Array {
  return Float32Array.from({ length: samples }, (_, i) => (i + 1) / (samples + 1));
}

/** One block behind the other. */
export function joined(...parts: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
