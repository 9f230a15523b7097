"""What is counted of a stream's packets, and the times of each packet that a hook sees."""

from streamcodec.protocol import Packet, now_us
from streamcodec.server import Metrics, PacketTrace
from streamcodec.server.info import StreamInfo
from streamcodec.server.totals import StreamTotals


def test_a_hook_sees_every_packet_with_its_times() -> None:
    seen: list[PacketTrace] = []
    metrics = Metrics(on_trace=seen.append)
    info = StreamInfo(
        "alice", "pcm_s16le", n_q=8, bandwidth=6.0, packet_frames=6, start="primed", live=True, packet_samples=1_920, packet_s=0.08
    )
    totals = StreamTotals(info, metrics, lambda *_: None)
    begun = now_us()
    for seq in range(5_000):
        totals.emit(Packet(seq, 0, begun % 2**32, 8, b"codes"), 0.08, (begun, begun + 100, begun + 200))
    assert [trace.seq for trace in seen] == list(range(5_000)) and totals.emitted == metrics.packets_emitted == 5_000
    assert {(t.stream, t.captured, t.received, t.started, t.done) for t in seen} == {
        ("alice", begun + 80_000, begun, begun + 100, begun + 200)
    }
    assert all(begun <= trace.emitted <= now_us() for trace in seen)
