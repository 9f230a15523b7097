"""What a welcome says of other servers is what there are of them at that time, and no more than the protocol has room for."""

from __future__ import annotations

from streamcodec.config import CodecConfig
from streamcodec.protocol import ListenHello, ModelInfo
from streamcodec.server import Limits
from streamcodec.server.handshake import Handshake

MODEL = ModelInfo(name="small", fingerprint="f00d", sampling_rate=24_000, hop_length=320, codebook_size=1024, num_quantizers=32)
HELLO = ListenHello(stream="alice", format="pcm_s16le")


def test_a_server_on_its_own_names_no_others():
    assert Handshake(MODEL, CodecConfig(), Limits(), "test").welcome(HELLO, None).alternates == ()


def test_each_welcome_names_the_others_that_there_are_then_the_best_first():
    others = ["wss://b.example"]
    handshake = Handshake(MODEL, CodecConfig(), Limits(), "test", lambda: others)
    assert handshake.welcome(HELLO, None).alternates == ("wss://b.example",)
    others[:0] = [f"wss://{i}.example" for i in range(4)]
    assert handshake.welcome(HELLO, None).alternates == tuple(others[:4])
