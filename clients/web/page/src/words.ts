// Plain words for what is missing or went wrong, and what to do.

import type { Trouble } from "./thread_messages.ts";

const BY_CODE: Readonly<Partial<Record<string, string>>> = {
  unauthorized: "The server does not accept this token: ask its operator for the right one.",
  stream_taken: "Somebody else publishes under this name. Choose another one.",
  taken_over: "Another window or program has taken over this stream.",
  moved: "The stream goes on at another server.",
  server_full: "The server is full: it has room once somebody leaves.",
  server_closing: "The server is shutting down.",
  slow_listener: "This connection was too slow for the stream.",
  rate_limited: "This page has sent more than the server allows.",
  model_mismatch: "The server's model has changed. Load the page again.",
  bad_version: "The server speaks another version. Load the page again.",
  bad_request: "The server cannot do what was asked.",
  timeout: "The server did not hear from this page in time.",
};

/** What a connection's trouble means, with the server's own words where it gave some. */
export function wordsFor({ code, reason }: Trouble): string {
  const words = BY_CODE[code];
  if (words !== undefined) return `${words} It says: “${reason}”.`;
  return code === "connection" ? `No connection: ${reason}.` : `Something went wrong: ${reason}.`;
}

/** Why the microphone cannot be had. */
export function wordsForMicrophone(error: unknown): string {
  const name = error instanceof DOMException ? error.name : "";
  switch (name) {
    case "NotAllowedError":
      return "The browser was not allowed to use the microphone. Allow it in the address bar's settings, then press Talk again.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "There is no microphone, or the chosen one is gone. Plug one in, or choose another one.";
    case "NotReadableError":
      return "Another program uses the microphone. Close that program, then press Talk again.";
    default:
      return `The microphone cannot be used: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** What this browser lacks, in words; null where nothing is missing. */
export function whatIsMissing(): string | null {
  if (!isSecureContext) {
    return "Browsers give sound to secure pages only. Open this page by https, or on the server's own machine as http://localhost.";
  }
  if (!("AudioWorkletNode" in globalThis)) return "This browser has no AudioWorklet. A current Firefox, Chrome, Edge or Safari has one.";
  return null;
}
