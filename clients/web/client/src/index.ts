// A client's way to the server: connections that are resumed, what a listener hears, what a publisher sends.

export { ConnectionFailed, Refused, browserIo } from "./connection.ts";
export type { Io } from "./connection.ts";
export { Listener } from "./listener.ts";
export type { ListenOptions, ListenerEvents, StreamEvent } from "./listener.ts";
export { Publisher } from "./publisher.ts";
export type { PublisherEvents } from "./publisher.ts";
export { SendQueue } from "./send_queue.ts";
