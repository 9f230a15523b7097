// Where the build has put the page's parts: names with a hash of their content.

/** Set by the build. */
declare const PARTS: Readonly<Record<"capture" | "playout" | "listen_worker" | "talk_worker" | "wasm", string>>;

export const parts = PARTS;

const here = (path: string) => new URL(path, document.baseURI).href;

export const places = { wasm: here(PARTS.wasm), model: here("model/") };

/** The server of this page. */
export function serverUrl(): string {
  const url = new URL(document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = url.hash = "";
  return url.href;
}

/** What a worker says: first of all that it is ready. */
interface Said {
  readonly type: string;
}

/** A worker, once it is there to take messages. */
export function startWorker(path: string, onMessage: (message: Said) => void): Promise<Worker> {
  const worker = new Worker(here(path), { type: "module" });
  return new Promise((resolve, reject) => {
    worker.onerror = (event) => {
      reject(new Error(event.message || "a part of the page could not be loaded: load it again"));
    };
    worker.onmessage = ({ data }: MessageEvent<Said>) => {
      if (data.type === "ready") resolve(worker);
      else onMessage(data);
    };
  });
}
