// What can go wrong with the protocol, and whose fault it is. Each code knows its WebSocket close code and whether to try again.

/** The close code of each word in a refusal or an error, and whether the same request may succeed later, unchanged. */
export const WIRE_CODES = {
  bad_message: { close: 4400, retry: false },
  unauthorized: { close: 4401, retry: false },
  out_of_turn: { close: 4403, retry: false },
  bad_version: { close: 4406, retry: false },
  timeout: { close: 4408, retry: true },
  stream_taken: { close: 4409, retry: true },
  unknown_session: { close: 4410, retry: false },
  taken_over: { close: 4411, retry: false },
  model_mismatch: { close: 4412, retry: false },
  slow_listener: { close: 4413, retry: true },
  bad_payload: { close: 4415, retry: false },
  bad_sequence: { close: 4416, retry: false },
  moved: { close: 4421, retry: true },
  bad_request: { close: 4422, retry: false },
  rate_limited: { close: 4429, retry: true },
  internal: { close: 4500, retry: true },
  server_closing: { close: 4501, retry: true },
  server_full: { close: 4503, retry: true },
} as const;

export type WireCode = keyof typeof WIRE_CODES;

export const NORMAL_CLOSURE = 1000;

/** Whether this version knows the code. */
export function isWireCode(code: string): code is WireCode {
  return Object.hasOwn(WIRE_CODES, code);
}

/** The close code of a word; one that this version does not know closes normally. */
export function closeCodeOf(code: string): number {
  return isWireCode(code) ? WIRE_CODES[code].close : NORMAL_CLOSURE;
}

/** One side broke the rules of the protocol. */
export class ProtocolError extends Error {
  override readonly name: string = "ProtocolError";
}

/** Our side: the caller used a session out of turn, or made a message that may not be sent. */
export class LocalProtocolError extends ProtocolError {
  override readonly name = "LocalProtocolError";
}

/** The other side: `code` is what it is told. */
export class RemoteProtocolError extends ProtocolError {
  override readonly name = "RemoteProtocolError";
  readonly code: WireCode;

  constructor(code: WireCode, reason: string) {
    super(reason);
    this.code = code;
  }
}

/** What does not fit in a message that came is the sender's fault. */
export function asTheirs<T>(blame: "bad_message" | "bad_request", read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof LocalProtocolError) throw new RemoteProtocolError(blame, error.message);
    throw error;
  }
}
