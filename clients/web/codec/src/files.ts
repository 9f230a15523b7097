// A model's files, fetched once: with progress, and checked against the manifest, so that a broken download is never run.

import type { Manifest } from "./manifest.ts";

/** Bytes that have come, of so many. */
export type Progress = (done: number, total: number) => void;

export type Fetch = (url: string) => Promise<Response>;

/** Gets files of one model from below `base`, and keeps them. */
export class ModelFiles {
  readonly #base: string;
  readonly #manifest: Manifest;
  readonly #fetch: Fetch;
  readonly #kept = new Map<string, Promise<Uint8Array>>();

  constructor(base: string, manifest: Manifest, fetcher: Fetch = (url) => fetch(url)) {
    this.#base = base;
    this.#manifest = manifest;
    this.#fetch = fetcher;
  }

  /** All of these files, by name. Rejects with an `Error` where one cannot be had, or is not the manifest's. */
  async get(names: readonly string[], progress: Progress = () => undefined): Promise<Map<string, Uint8Array>> {
    const total = names.reduce((sum, name) => sum + this.#manifest.files[name].bytes, 0);
    let done = 0;
    const come = (bytes: number) => {
      done += bytes;
      progress(done, total);
    };
    const found = await Promise.all(names.map(async (name) => [name, await this.#file(name, come)] as const));
    return new Map(found);
  }

  #file(name: string, come: (bytes: number) => void): Promise<Uint8Array> {
    const kept = this.#kept.get(name);
    if (kept !== undefined) {
      come(this.#manifest.files[name].bytes);
      return kept;
    }
    const coming = this.#download(name, come);
    this.#kept.set(name, coming);
    coming.catch(() => this.#kept.delete(name));
    return coming;
  }

  async #download(name: string, come: (bytes: number) => void): Promise<Uint8Array> {
    const expected = this.#manifest.files[name];
    const response = await this.#fetch(this.#base + name);
    if (!response.ok || response.body === null) throw new Error(`the model's file ${name} cannot be had: ${response.status}`);
    const data = new Uint8Array(expected.bytes);
    let at = 0;
    const reader = response.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const bytes = part.value as Uint8Array;
      if (at + bytes.length > data.length) {
        at = Infinity;
        await reader.cancel();
        break;
      }
      data.set(bytes, at);
      at += bytes.length;
      come(bytes.length);
    }
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
    const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (at !== data.length || found !== expected.sha256) throw new Error(`the model's file ${name} came broken: load the page again`);
    return data;
  }
}
