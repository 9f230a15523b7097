// What a message's field may hold: a table of checks for each message, read on the way in and on the way out.

import { LocalProtocolError } from "./errors.ts";
import { Real } from "./msgpack.ts";

/** One field: what it accepts, in words too, and what stands for it where its key is missing (`undefined`: it must be there). */
export interface Field {
  readonly expected: string;
  readonly accepts: (value: unknown) => boolean;
  readonly nullable: boolean;
  readonly fallback: unknown;
  /** A float on the wire, whatever its value. */
  readonly real: boolean;
  /** The fields of a map in place of one value. */
  readonly record: Table | null;
}

export type Table = Readonly<Record<string, Field>>;

const field = (expected: string, accepts: (value: unknown) => boolean, real = false): Field => ({
  expected,
  accepts,
  nullable: false,
  fallback: undefined,
  real,
  record: null,
});

/** The number in a value; NaN where there is none. */
const numberIn = (value: unknown): number => (value instanceof Real ? value.value : typeof value === "number" ? value : NaN);

export const whole = (low: number, high: number): Field =>
  field(
    `an integer from ${low} to ${high}`,
    (value) => typeof value === "number" && Number.isInteger(value) && low <= value && value <= high,
  );

export const several = (one: Field, most: number): Field =>
  field(
    `an array of at most ${most}, each ${one.expected}`,
    (value) => Array.isArray(value) && value.length <= most && value.every((item) => one.accepts(item)),
  );

export const between = (low: number, high: number): Field =>
  field(`a number from ${low} to ${high}`, (value) => numberIn(value) >= low && numberIn(value) <= high, true);

export const positive = (most: number): Field =>
  field(`a number above 0 and at most ${most}`, (value) => numberIn(value) > 0 && numberIn(value) <= most, true);

export const positives = (most: number): Field =>
  field(
    `an array of numbers above 0 and at most ${most}`,
    (value) => Array.isArray(value) && value.every((one) => numberIn(one) > 0 && numberIn(one) <= most),
    true,
  );

export const text = (least: number, most: number): Field =>
  field(`text of ${least} to ${most} bytes`, (value) => {
    const size = typeof value === "string" ? new TextEncoder().encode(value).length : -1;
    return size >= least && size <= most;
  });

export const matching = (pattern: RegExp, expected: string): Field =>
  field(expected, (value) => typeof value === "string" && pattern.test(value));

export const word = (...choices: string[]): Field =>
  field(choices.join(" or "), (value) => typeof value === "string" && choices.includes(value));

export const flag = field("true or false", (value) => typeof value === "boolean");

export const map = (record: Table): Field => ({ ...field("a map", isMap), record });

function isMap(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Real) && !(value instanceof Uint8Array);
}

/** The same field, null or missing for null. */
export const orNull = (one: Field): Field => ({ ...one, expected: `${one.expected} or null`, nullable: true, fallback: null });

/** The same field, missing for `fallback`. */
export const orElse = (one: Field, fallback: unknown): Field => ({ ...one, fallback });

/** The fields that `table` knows out of `values`, checked, floats as plain numbers. Throws `LocalProtocolError`. */
export function readFields(what: string, values: Readonly<Record<string, unknown>>, table: Table): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const [name, rule] of Object.entries(table)) {
    const value = values[name];
    if (value === undefined) {
      if (rule.fallback === undefined) throw new LocalProtocolError(`${what}: ${name} is missing, expected ${rule.expected}`);
      found[name] = rule.fallback;
    } else if (value === null ? !rule.nullable : !rule.accepts(value)) {
      throw new LocalProtocolError(`${what}: ${name} is ${shown(value)}, expected ${rule.expected}`);
    } else if (rule.record !== null && value !== null) {
      found[name] = readFields(name, value as Record<string, unknown>, rule.record);
    } else found[name] = plain(value);
  }
  return found;
}

/** `values` as they go on the wire: every field of `table` in its order. */
export function writtenFields(values: Readonly<Record<string, unknown>>, table: Table): Record<string, unknown> {
  const written: Record<string, unknown> = {};
  for (const [name, rule] of Object.entries(table)) {
    const value = values[name];
    if (value !== null && rule.record !== null) written[name] = writtenFields(value as Record<string, unknown>, rule.record);
    else written[name] = rule.real ? realOf(value) : value;
  }
  return written;
}

/** A value for an error message, shortened: the other side decides how long it is. */
export function shown(value: unknown): string {
  const plainValue = plain(value);
  const said = typeof plainValue === "bigint" ? String(plainValue) : JSON.stringify(plainValue);
  return said.length > 60 ? `${said.slice(0, 57)}...` : said;
}

function plain(value: unknown): unknown {
  return Array.isArray(value) ? value.map(plain) : value instanceof Real ? value.value : value;
}

function realOf(value: unknown): unknown {
  return Array.isArray(value) ? value.map(realOf) : typeof value === "number" ? new Real(value) : value;
}
