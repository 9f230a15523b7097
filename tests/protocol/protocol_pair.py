"""Messages that tests share: one of each kind, a model, and two ends joined without a network."""

from dataclasses import replace

from streamcodec.protocol import (
    ClientSession,
    End,
    Ended,
    Error,
    Gap,
    ListenHello,
    ModelInfo,
    Packet,
    Ping,
    Pong,
    PublishHello,
    Refuse,
    Report,
    Resume,
    ServerSession,
    StreamEnd,
    StreamStart,
    Waiting,
    Welcome,
)

MODEL = ModelInfo(name="small", fingerprint="f00d", sampling_rate=24_000, hop_length=320, codebook_size=1024, num_quantizers=32)
PUBLISH_CODES = PublishHello(stream="alice", format="codes", model="f00d")
PUBLISH_PCM = PublishHello(stream="alice", format="pcm_s16le", sample_rate=48_000, channels=2)
LISTEN_CODES = ListenHello(stream="alice", format="codes", model="f00d")
RESUME = Resume(session="5e55", epoch=2, next_seq=70)
LISTEN_PCM = ListenHello(stream="alice", format="pcm_f32le")
WELCOME = Welcome(
    role="publish",
    stream="alice",
    model=MODEL,
    format="codes",
    bandwidth=6.0,
    n_q=8,
    packet_frames=6,
    start="primed",
    epoch=0,
    next_seq=0,
    time=1_000,
)
START = StreamStart(
    epoch=0, n_q=8, bandwidth=6.0, packet_frames=6, start="primed", first_seq=0, live_seq=0, format="codes", sample_rate=24_000
)
PAYLOAD = bytes(60)
PACKET = Packet(0, 0, 0, 8, PAYLOAD)
ONE_OF_EACH = [
    PACKET,
    PUBLISH_CODES,
    PUBLISH_PCM,
    replace(PUBLISH_PCM, silence_db=-50.5),
    LISTEN_CODES,
    LISTEN_PCM,
    replace(PUBLISH_CODES, resume=RESUME, can_move=True),
    replace(LISTEN_CODES, bandwidth=6.0, min_bandwidth=1.5, resume=RESUME),
    WELCOME,
    Refuse(code="server_full", reason="64 streams", retry=True, retry_after_ms=500),
    Waiting(stream="alice"),
    START,
    Gap(first_seq=0, count=3, reason="overload"),
    End(),
    End(last_seq=7),
    Ended(received=3, emitted=2, dropped=1),
    StreamEnd(next_seq=0, reason="publisher ended"),
    Report(received=5, played=3, margin_ms=-20, late_ms=40, bandwidth=3.0),
    Ping(time=5),
    Pong(time=5, server_time=9),
    Error(code="internal", reason="internal error"),
    Error(code="moved", reason="the session goes on elsewhere", go_to="wss://b.example"),
]


def welcome_to(hello, **changes):
    """The welcome that answers a hello."""
    role = "publish" if isinstance(hello, PublishHello) else "listen"
    return replace(WELCOME, role=role, stream=hello.stream, format=hello.format, **changes)


class Pair:
    """A client and a server whose messages reach each other at once."""

    def __init__(self, hello, welcome=None):
        self.client = ClientSession(hello)
        self.server = ServerSession()
        self.exchange()
        self.server.accept(welcome or welcome_to(hello))
        self.exchange()

    def exchange(self):
        """Deliver what is queued; returns (what the client got, what the server got)."""
        to_server, to_client = self.client.data_to_send(), self.server.data_to_send()
        at_server = [event for data in to_server for event in self.server.feed(data)]
        at_client = [event for data in to_client for event in self.client.feed(data)]
        return at_client, at_server
