// Hears one stream to its end and says what came, as one object of JSON: listen URL STREAM FORMAT [FINGERPRINT]

import { ClientSession, SILENCE, SUBPROTOCOL, bitsPerCode, listenHello, packetSamples, unpackCodes, unpackScaled } from "../src/index.ts";
import type { Format, Message } from "../src/index.ts";

const [url, stream, format] = process.argv.slice(2);
const model = process.argv.at(5) ?? null;
const heard = { starts: 0, packets: 0, samples: 0, lost: 0, silent: 0, codes: [] as number[][][], clock: false, ended: false };
let refusal: { code: string; retry?: boolean } | null = null;

const session = new ClientSession(listenHello({ stream, format: format as Format, model }));
const socket = new WebSocket(url, SUBPROTOCOL);
socket.binaryType = "arraybuffer";
const send = () => {
  for (const data of session.dataToSend()) socket.send(data);
};

function take(message: Message): void {
  const { start, welcome } = session;
  if (message.type === "refuse" || message.type === "error") refusal = message;
  else if (message.type === "welcome") session.ping(7);
  else if (message.type === "pong") heard.clock = message.time === 7 && message.server_time > 0;
  else if (message.type === "start") heard.starts++;
  else if (message.type === "stream_end") heard.ended = true;
  if (start === null || welcome === null) return;
  if (message.type === "gap") {
    heard[message.reason === SILENCE ? "silent" : "lost"] += message.count;
    // What is missing is as long as packets are.
    if (message.first_seq >= start.live_seq)
      heard.samples += message.count * (start.packet_samples ?? packetSamples(welcome.model, start.packet_frames));
  } else if (message.type === "packet") {
    heard.packets++;
    session.report();
    let samples = message.payload.length / (format === "pcm_s16le" ? 2 : 4) / start.channels;
    if (format === "codes") {
      const unpack = welcome.model.normalize ? (...packed: Parameters<typeof unpackCodes>) => unpackScaled(...packed).codes : unpackCodes;
      const codes = unpack(message.payload, message.n_q, bitsPerCode(welcome.model));
      heard.codes.push(codes.map((row) => Array.from(row)));
      samples = Math.min(codes[0].length * welcome.model.hop_length, welcome.model.chunk_stride ?? Infinity);
    }
    // Packets before the live one are for the decoder's state alone.
    if (message.seq >= start.live_seq) heard.samples += samples;
  }
}

socket.onopen = send;
socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
  const message = session.feed(typeof data === "string" ? data : new Uint8Array(data));
  if (message !== null) take(message);
  send();
  // The answer to the ping may come behind a short stream's end.
  if (heard.ended && heard.clock) socket.close(1000);
};
socket.onclose = ({ code: close }) => {
  console.log(JSON.stringify({ ...heard, ...(refusal ?? {}), close }));
};
