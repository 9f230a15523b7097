// As much of msgpack as the protocol uses. The protocol tells floats from integers, which JavaScript's numbers do not: `Real` keeps a float's
// kind on the way in, and asks for one on the way out.

import { RemoteProtocolError } from "./errors.ts";

const MAX_DEPTH = 8;
const MAX_ELEMENTS = 256;
const MAX_KEYS = 64;

/** A float, even where its value is whole. */
export class Real {
  readonly value: number;

  constructor(value: number) {
    this.value = value;
  }
}

const broken = (reason: string) => new RemoteProtocolError("bad_message", `the message is not one msgpack value: ${reason}`);

/** Read exactly one value. Throws `RemoteProtocolError` bad_message. */
export function unpack(bytes: Uint8Array): unknown {
  const reader = new Reader(bytes);
  const value = reader.value(0);
  if (!reader.atEnd) throw broken("more bytes follow it");
  return value;
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  value(depth: number): unknown {
    if (depth > MAX_DEPTH) throw broken(`it is nested deeper than ${MAX_DEPTH}`);
    const head = this.#uint(1);
    if (head < 0x80) return head;
    if (head < 0x90) return this.#map(head & 15, depth);
    if (head < 0xa0) return this.#array(head & 15, depth);
    if (head < 0xc0) return this.#text(head & 31);
    if (head >= 0xe0) return head - 256;
    switch (head) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return this.#bin(this.#uint(1));
      case 0xc5:
        return this.#bin(this.#uint(2));
      case 0xc6:
        return this.#bin(this.#uint(4));
      case 0xca:
        return new Real(this.#view.getFloat32(this.#take(4)));
      case 0xcb:
        return new Real(this.#view.getFloat64(this.#take(8)));
      case 0xcc:
        return this.#uint(1);
      case 0xcd:
        return this.#uint(2);
      case 0xce:
        return this.#uint(4);
      case 0xcf:
        return narrowed(this.#view.getBigUint64(this.#take(8)));
      case 0xd0:
        return this.#view.getInt8(this.#take(1));
      case 0xd1:
        return this.#view.getInt16(this.#take(2));
      case 0xd2:
        return this.#view.getInt32(this.#take(4));
      case 0xd3:
        return narrowed(this.#view.getBigInt64(this.#take(8)));
      case 0xd9:
        return this.#text(this.#uint(1));
      case 0xda:
        return this.#text(this.#uint(2));
      case 0xdb:
        return this.#text(this.#uint(4));
      case 0xdc:
        return this.#array(this.#uint(2), depth);
      case 0xdd:
        return this.#array(this.#uint(4), depth);
      case 0xde:
        return this.#map(this.#uint(2), depth);
      case 0xdf:
        return this.#map(this.#uint(4), depth);
      default:
        throw broken(`the byte 0x${head.toString(16)} begins nothing that is used here`);
    }
  }

  #take(size: number): number {
    // Sizes are the sender's word: what is not there is not allocated either.
    if (size > this.#bytes.length - this.#at) throw broken("it breaks off");
    this.#at += size;
    return this.#at - size;
  }

  #uint(size: 1 | 2 | 4): number {
    const at = this.#take(size);
    return size === 1 ? this.#view.getUint8(at) : size === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  #bin(size: number): Uint8Array {
    const from = this.#take(size);
    return this.#bytes.slice(from, from + size);
  }

  #text(size: number): string {
    const from = this.#take(size);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.#bytes.subarray(from, from + size));
    } catch {
      throw broken("a text is not UTF-8");
    }
  }

  #array(size: number, depth: number): unknown[] {
    if (size > MAX_ELEMENTS) throw broken(`an array has ${size} elements, expected at most ${MAX_ELEMENTS}`);
    const found: unknown[] = [];
    for (let i = 0; i < size; i++) found.push(this.value(depth + 1));
    return found;
  }

  #map(size: number, depth: number): Record<string, unknown> {
    if (size > MAX_KEYS) throw broken(`a map has ${size} keys, expected at most ${MAX_KEYS}`);
    const found: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
    for (let i = 0; i < size; i++) {
      const key = this.value(depth + 1);
      if (typeof key !== "string") throw broken("a key is no text");
      found[key] = this.value(depth + 1);
    }
    return found;
  }
}

/** Integers beyond 2^53 stay bigint, which no field accepts. */
function narrowed(value: bigint): number | bigint {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}

/** Write a value in its shortest form; numbers must be whole, or a `Real`. */
export function pack(value: unknown): Uint8Array {
  const writer = new Writer();
  writer.value(value);
  return writer.bytes();
}

class Writer {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;

  bytes(): Uint8Array {
    return this.#bytes.slice(0, this.#at);
  }

  value(value: unknown): void {
    if (value === null) this.#uint(1, 0xc0);
    else if (typeof value === "boolean") this.#uint(1, value ? 0xc3 : 0xc2);
    else if (typeof value === "number") this.#whole(value);
    else if (value instanceof Real) this.#real(value.value);
    else if (typeof value === "string") this.#text(value);
    else if (value instanceof Uint8Array) {
      this.#sized(value.length, null, [0xc4, 0xc5, 0xc6]);
      this.#raw(value);
    } else if (Array.isArray(value)) {
      this.#sized(value.length, { head: 0x90, most: 15 }, [null, 0xdc, 0xdd]);
      for (const one of value) this.value(one);
    } else if (typeof value === "object") {
      const entries = Object.entries(value);
      this.#sized(entries.length, { head: 0x80, most: 15 }, [null, 0xde, 0xdf]);
      for (const [key, inner] of entries) {
        this.#text(key);
        this.value(inner);
      }
    } else throw new TypeError(`cannot write ${typeof value} as msgpack`);
  }

  #room(size: number): number {
    if (this.#at + size > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(2 * this.#bytes.length, this.#at + size));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#at += size;
    return this.#at - size;
  }

  #raw(bytes: Uint8Array): void {
    const at = this.#room(bytes.length); // may replace the array
    this.#bytes.set(bytes, at);
  }

  #uint(size: 1 | 2 | 4, value: number): void {
    const at = this.#room(size);
    if (size === 1) this.#view.setUint8(at, value);
    else if (size === 2) this.#view.setUint16(at, value);
    else this.#view.setUint32(at, value);
  }

  #real(value: number): void {
    this.#uint(1, 0xcb);
    const at = this.#room(8);
    this.#view.setFloat64(at, value);
  }

  #text(text: string): void {
    const utf8 = new TextEncoder().encode(text);
    this.#sized(utf8.length, { head: 0xa0, most: 31 }, [0xd9, 0xda, 0xdb]);
    this.#raw(utf8);
  }

  #sized(size: number, short: { head: number; most: number } | null, heads: [number | null, number, number]): void {
    const [one, two, four] = heads;
    if (short !== null && size <= short.most) this.#uint(1, short.head | size);
    else if (one !== null && size < 0x100) {
      this.#uint(1, one);
      this.#uint(1, size);
    } else if (size < 0x10000) {
      this.#uint(1, two);
      this.#uint(2, size);
    } else {
      this.#uint(1, four);
      this.#uint(4, size);
    }
  }

  #whole(n: number): void {
    if (!Number.isSafeInteger(n)) throw new TypeError(`${n} is not whole: write it as a Real`);
    if (n >= 0 && n < 0x80) this.#uint(1, n);
    else if (n < 0 && n >= -32) this.#uint(1, n + 256);
    else if (n >= 0 && n < 0x100) this.#headed(0xcc, 1, n);
    else if (n >= 0 && n < 0x10000) this.#headed(0xcd, 2, n);
    else if (n >= 0 && n < 2 ** 32) this.#headed(0xce, 4, n);
    else if (n >= 0) {
      this.#uint(1, 0xcf);
      const at = this.#room(8);
      this.#view.setBigUint64(at, BigInt(n));
    } else if (n >= -0x80) this.#headed(0xd0, 1, n + 0x100);
    else if (n >= -0x8000) this.#headed(0xd1, 2, n + 0x10000);
    else if (n >= -(2 ** 31)) this.#headed(0xd2, 4, n + 2 ** 32);
    else {
      this.#uint(1, 0xd3);
      const at = this.#room(8);
      this.#view.setBigInt64(at, BigInt(n));
    }
  }

  #headed(head: number, size: 1 | 2 | 4, value: number): void {
    this.#uint(1, head);
    this.#uint(size, value);
  }
}
