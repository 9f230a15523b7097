// Where the build has put the page's parts: names with a hash of their content.

/** Set by the build. */
declare const PARTS: Readonly<Record<"capture" | "playout" | "listen_worker" | "talk_worker" | "wasm", string>>;

export const parts = PARTS;

/** The address of a part of the page. */
export const here = (path: string) => new URL(path, document.baseURI).href;

export const places = { wasm: here(PARTS.wasm), model: here("model/") };

/** The server of this page. */
export function serverUrl(): string {
  const url = new URL(document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = url.hash = "";
  return url.href;
}
