"""What tests of the fan-out share: packets, starts, and the count that a listener's session keeps."""

from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart

PACKET_S = 0.08


def packet(seq, epoch=0):
    return Packet(seq, epoch, 0, 2, b"x" * 15)


def start(seq, epoch=0):
    return StreamStart(
        epoch=epoch, n_q=2, bandwidth=1.5, packet_frames=6, start="exact", first_seq=seq, live_seq=seq, format="codes", sample_rate=24_000
    )


def check_books(messages, first=0):
    """What a session at the other end checks: each number comes once, or is named by a gap."""
    expected = first
    for message in messages:
        if isinstance(message, Packet):
            assert message.seq == expected
            expected += 1
        elif isinstance(message, Gap):
            assert message.first_seq == expected
            expected = message.next_seq
        elif isinstance(message, StreamStart):
            assert message.live_seq == expected
        elif isinstance(message, StreamEnd):
            assert message.next_seq == expected
    return expected
