"""A live publisher is a clock that drops the oldest and says so; one that sends waits instead; both learn what became of it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from client_rig import MODEL, run, scripted, until

from streamcodec.client import PublishOptions, publish
from streamcodec.errors import AudioError, CodesError, ConnectionFailed, InputError, Refused, StreamCodecError
from streamcodec.protocol import End, Ended, Error, Gap, Packet, PublishHello, unpack_codes

BLOCK = np.zeros(2400, np.float32)  # 100 ms
CODES = PublishOptions(format="codes", model=MODEL.fingerprint, pace="fast")


async def take_all(server):
    """Receive until the end and answer it; pings are left alone."""
    while not isinstance(await server.receive(), End):
        pass
    packets = [message for message in server.got if isinstance(message, Packet)]
    await server.send(Ended(received=len(packets), emitted=7, dropped=0))
    await server.ws.close()


def test_blocks_go_out_as_packets_of_pcm_with_the_time_of_their_first_sample():
    servers = []

    async def main():
        async def script(server):
            servers.append(server)
            await server.welcome()
            await take_all(server)

        async with scripted(script) as url:
            async with publish(url, "alice", PublishOptions(sample_rate=16_000, pace="fast", bandwidth=3.0, token="s3cret")) as publisher:
                x = np.linspace(-1, 1, 4_000).astype(np.float32)
                await publisher.send(x, captured_us=1_000_000)
                ended = await publisher.end()
                assert publisher.welcome.n_q == 8
            assert (ended.received, ended.emitted) == (3, 7)
            with pytest.raises(InputError, match="was ended"):
                publisher.offer(x)
        hello, *rest = servers[0].got
        assert isinstance(hello, PublishHello)
        assert (hello.sample_rate, hello.channels, hello.pace, hello.bandwidth, hello.token) == (16_000, 1, "fast", 3.0, "s3cret")
        packets = [m for m in rest if isinstance(m, Packet)]
        assert [len(p.payload) // 2 for p in packets] == [1600, 1600, 800]
        got = np.frombuffer(b"".join(p.payload for p in packets), "<i2") / 32_768
        np.testing.assert_allclose(got, x, atol=1 / 32_768)
        steps = np.diff([p.timestamp for p in packets])
        assert all(abs(step - 100_000) < 50_000 for step in steps)
        assert rest[-1] == End(last_seq=2)

    run(main())


def test_channels_are_mixed_down_before_they_are_sent():
    servers = []

    async def main():
        async def script(server):
            servers.append(server)
            await server.welcome()
            await take_all(server)

        async with scripted(script) as url, publish(url, "alice", PublishOptions(format="pcm_f32le", channels=2)) as publisher:
            publisher.offer(np.stack([np.full(100, 0.5, np.float32), np.full(100, 0.25, np.float32)]))
            await publisher.end()
        hello, packet, _ = (m for m in servers[0].got if isinstance(m, (PublishHello, Packet, End)))
        assert hello.channels == 1
        np.testing.assert_array_equal(np.frombuffer(packet.payload, "<f4"), np.full(100, 0.375, np.float32))

    run(main())


def test_codes_go_out_packed_as_they_are():
    servers = []

    async def main():
        async def script(server):
            servers.append(server)
            await server.welcome()
            await take_all(server)

        codes = np.arange(8 * 15).reshape(8, 15)
        async with scripted(script) as url, publish(url, "alice", CODES) as publisher:
            for at in (0, 6, 12):
                await publisher.send(codes[:, at : at + 6])
        packets = [m for m in servers[0].got if isinstance(m, Packet)]
        np.testing.assert_array_equal(np.concatenate([unpack_codes(p.payload, 8, 10) for p in packets], axis=1), codes)

    run(main())


def test_each_packet_of_codes_says_how_many_codebooks_it_has_also_when_it_is_sent_again():
    servers = []

    async def main():
        async def script(server):
            servers.append(server)
            again = len(servers) > 1
            await server.welcome(session="5e55", resume_ms=10_000, next_seq=1 if again else 0)
            if again:
                await take_all(server)
            else:
                while len([message for message in server.got if isinstance(message, Packet)]) < 3:
                    await server.receive()
                server.ws.transport.abort()

        codes = np.arange(8 * 6).reshape(8, 6)
        sent = [codes, codes[:1], codes[:5], codes]
        async with scripted(script) as url, publish(url, "alice", CODES) as publisher:
            for packet in sent[:3]:
                await publisher.send(packet)
            await until(lambda: publisher.resumed)
            await publisher.send(sent[3])
        for server, expected in zip(servers, (sent[:3], sent[1:]), strict=True):
            packets = [m for m in server.got if isinstance(m, Packet)]
            assert [p.n_q for p in packets] == [len(packet) for packet in expected]
            for packet, wanted in zip(packets, expected, strict=True):
                np.testing.assert_array_equal(unpack_codes(packet.payload, packet.n_q, 10), wanted)

    run(main())


def test_of_a_pause_few_packets_of_codes_go_out_and_a_gap_names_the_others_as_soon_as_its_number_is_needed():
    servers = []

    async def main():
        async def script(server):
            servers.append(server)
            await server.welcome()
            await take_all(server)

        codes = np.arange(8 * 6).reshape(8, 6)
        async with scripted(script) as url, publish(url, "alice", CODES) as publisher:
            for packet in [codes, *[codes[:1]] * 14, codes, *[codes[:1]] * 4]:
                await publisher.send(packet)
            # A packet more quiet than the others, but with half of the codebooks, is no silence; a short one is the last.
            await publisher.send(codes[:4])
            for _ in range(3):
                await publisher.send(codes[:1])
            await publisher.send(codes[:1, :2])
        got = [m for m in servers[0].got if isinstance(m, (Packet, Gap, End))]
        told = [(m.seq, m.n_q) if isinstance(m, Packet) else (m.first_seq, m.count, m.reason) for m in got[:-1]]
        assert told == [
            *((0, 8), (1, 1), (2, 9, "silence"), (11, 1), (12, 3, "silence"), (15, 8)),
            *((16, 1), (17, 3, "silence"), (20, 4), (21, 1), (22, 2, "silence"), (24, 1)),
        ]
        assert got[-1] == End(last_seq=24)

    run(main())


def test_a_pause_that_is_the_end_is_told_before_it():
    servers = []

    async def main():
        async def script(server):
            servers.append(server)
            await server.welcome()
            await take_all(server)

        codes = np.arange(8 * 6).reshape(8, 6)
        async with scripted(script) as url, publish(url, "alice", PublishOptions(format="codes", model=MODEL.fingerprint)) as publisher:
            for packet in [codes, *[codes[:1]] * 5]:
                publisher.offer(packet)
            await publisher.end()
        got = [m for m in servers[0].got if isinstance(m, (Packet, Gap, End))]
        assert [type(m) for m in got] == [Packet, Packet, Gap, End]
        assert got[2:] == [Gap(first_seq=2, count=4, reason="silence"), End(last_seq=5)]

    run(main())


def test_a_pause_goes_on_where_the_connection_broke_in_the_middle_of_it():
    servers = []

    async def main():
        async def script(server):
            servers.append(server)
            again = len(servers) > 1
            hello = await server.welcome(session="5e55", resume_ms=10_000, next_seq=2 if again else 0)
            if again:
                assert hello.resume.next_seq == 16
                await take_all(server)
            else:
                while len([message for message in server.got if isinstance(message, Packet)]) < 3:
                    await server.receive()
                server.ws.transport.abort()

        codes = np.arange(8 * 6).reshape(8, 6)
        async with scripted(script) as url, publish(url, "alice", CODES) as publisher:
            for packet in [codes, *[codes[:1]] * 15]:
                await publisher.send(packet)
            await until(lambda: publisher.resumed)
            await publisher.send(codes[:1])
            await publisher.send(codes)
        got = [m for m in servers[1].got if isinstance(m, (Packet, Gap))]
        assert [(m.seq, m.n_q) if isinstance(m, Packet) else (m.first_seq, m.count, m.reason) for m in got] == [
            *((2, 9, "silence"), (11, 1), (12, 5, "silence"), (17, 8)),
        ]

    run(main())


@pytest.mark.parametrize("silence_db", [None, -50.0, -33])
def test_the_server_is_told_what_counts_as_silence(silence_db):
    servers = []

    async def main():
        async def script(server):
            servers.append(server)
            await server.welcome()
            await take_all(server)

        async with scripted(script) as url, publish(url, "alice", PublishOptions(silence_db=silence_db)):
            pass
        assert servers[0].got[0].silence_db == silence_db

    run(main())


def test_an_uplink_that_stalls_costs_the_oldest_audio_and_the_server_is_told_which_numbers_never_come():
    servers, reading = [], asyncio.Event()

    async def main():
        async def script(server):
            servers.append(server)
            await server.welcome()
            await reading.wait()
            await take_all(server)

        async with scripted(script) as url, publish(url, "alice", PublishOptions(queue_s=0.5)) as publisher:
            # Held as a full socket would hold it.
            await publisher._uplink.connection._sending.acquire()
            most = 0.0
            for i in range(20):
                publisher.offer(np.full(2400, i / 100, np.float32))
                await (asyncio.sleep(0) if i else until(lambda: not publisher.queued_s))
                most = max(most, publisher.queued_s)
            publisher._uplink.connection._sending.release()
            assert most <= 0.5 + 1e-9
            assert publisher.dropped_s == pytest.approx(1.4)
            reading.set()
            ended = await publisher.end()
            assert ended.received == 6
        got = [m for m in servers[0].got if isinstance(m, (Packet, Gap, End))]
        assert got[0].seq == 0
        assert got[1] == Gap(first_seq=1, count=14, reason="uplink")
        assert [m.seq for m in got[2:-1]] == list(range(15, 20))
        assert got[-1] == End(last_seq=19)
        values = [round(int(np.frombuffer(m.payload, "<i2")[0]) / 327.68) for m in got if isinstance(m, Packet)]
        assert values == [0, 15, 16, 17, 18, 19]

    run(main())


def test_what_is_dropped_last_is_told_before_the_end():
    servers = []

    async def main():
        async def script(server):
            servers.append(server)
            await server.welcome()
            await take_all(server)

        async with scripted(script) as url, publish(url, "alice", PublishOptions(queue_s=0.1)) as publisher:
            await publisher._uplink.connection._sending.acquire()
            publisher.offer(BLOCK)
            await until(lambda: not publisher.queued_s)
            publisher.offer(np.zeros(7200, np.float32))
            publisher._uplink.connection._sending.release()
            await publisher.end()
        got = [m for m in servers[0].got if isinstance(m, (Packet, Gap, End))]
        assert [getattr(m, "seq", m.type) for m in got] == [0, "gap", 3, "end"]

    run(main())


@pytest.mark.parametrize("form", ["codes", "pcm_s16le"])
def test_what_was_lost_before_it_was_offered_is_a_gap_where_it_was_lost(form):
    servers = []

    async def main():
        async def script(server):
            servers.append(server)
            await server.welcome()
            await take_all(server)

        coded = form == "codes"
        block = np.zeros((8, 6), np.int64) if coded else np.zeros(1920, np.float32)
        async with scripted(script) as url:
            async with publish(url, "alice", PublishOptions(format=form, model=MODEL.fingerprint if coded else None)) as publisher:
                publisher.offer(block, 0)
                publisher.lose(0.25)  # 3.1 packets of 80 ms
                publisher.offer(block, 330_000)
                publisher.lose(0.02)
                publisher.offer(block, 430_000)
                publisher.lose(0.02)  # with the two before it one more
                publisher.offer(block, 530_000)
            with pytest.raises(InputError, match="was ended"):
                publisher.lose(1.0)
        told = [m for m in servers[0].got if isinstance(m, (Packet, Gap))]
        counts = [-1, 3, -1, -1, 1, -1] if coded else [-1, 2, -1, 1, -1, 1, -1]
        assert [m.count if isinstance(m, Gap) else -1 for m in told] == counts
        assert {m.reason for m in told if isinstance(m, Gap)} == {"publisher"}
        begun, *later = [m.timestamp for m in told if isinstance(m, Packet)]
        assert [round((at - begun) / 1e5) for at in later] == [3, 4, 5]

    run(main())


def test_sending_waits_for_room_and_drops_nothing():
    servers = []

    async def main():
        async def script(server):
            servers.append(server)
            await server.welcome()
            await take_all(server)

        async with scripted(script) as url, publish(url, "alice", PublishOptions(queue_s=0.3)) as publisher:
            await publisher._uplink.connection._sending.acquire()

            async def feed():
                for _ in range(20):
                    await publisher.send(BLOCK)

            sending = asyncio.create_task(feed())
            for _ in range(200):
                await asyncio.sleep(0)
            held = not sending.done()
            waiting = publisher.queued_s
            publisher._uplink.connection._sending.release()
            await sending
            ended = await publisher.end()
            assert held
            assert waiting < 0.5
            assert ended.received == 20
            assert publisher.dropped_s == 0

    run(main())


def test_what_the_server_dropped_is_counted():
    async def main():
        async def script(server):
            await server.welcome()
            for _ in range(3):
                while not isinstance(await server.receive(), Packet):
                    pass
            await server.send(Gap(first_seq=1, count=2, reason="overload"))
            await take_all(server)

        async with scripted(script) as url, publish(url, "alice") as publisher:
            for _ in range(3):
                publisher.offer(BLOCK)
            await until(lambda: publisher.server_dropped == 2)

    run(main())


def test_a_refusal_in_the_middle_reaches_whoever_offers_sends_or_waits_for_the_end():
    async def main():
        async def script(server):
            await server.welcome()
            await server.receive()
            await server.send(Error(code="bad_payload", reason="no audio"))
            await server.ws.close(4415)

        async with scripted(script) as url:
            for verb in ("offer", "send", "end"):
                with pytest.raises(Refused, match="no audio") as caught:
                    async with publish(url, "alice", PublishOptions(queue_s=0.2)) as publisher:
                        publisher.offer(BLOCK)
                        if verb == "end":
                            await publisher.end()
                        while True:
                            if verb == "send":
                                await publisher.send(BLOCK)
                            else:
                                publisher.offer(BLOCK)
                            await asyncio.sleep(0)
                assert (caught.value.code, caught.value.retry) == ("bad_payload", False)

    run(main())


def test_a_server_that_dies_in_the_middle_is_a_lost_connection_for_all_who_wait():
    async def main():
        async def script(server):
            await server.welcome()
            await server.receive()
            server.ws.transport.abort()

        async with scripted(script) as url:
            with pytest.raises(ConnectionFailed, match="was lost"):
                async with publish(url, "alice") as publisher:
                    await publisher.send(BLOCK)
            with pytest.raises(ConnectionFailed, match="was lost"):
                async with publish(url, "alice", PublishOptions(queue_s=0.01)) as publisher:
                    while True:
                        await publisher.send(BLOCK)

    run(main())


def test_leaving_because_of_an_error_does_not_wait_for_the_server():
    async def main():
        async def script(server):
            await server.welcome()
            await server.ws.wait_closed()

        async with scripted(script) as url:
            with pytest.raises(KeyError):
                async with publish(url, "alice") as publisher:
                    publisher.offer(BLOCK)
                    raise KeyError("the caller's own")

    run(main())


def test_giving_up_on_the_end_leaves_it_to_be_asked_for_again():
    async def main():
        answer = asyncio.Event()

        async def script(server):
            await server.welcome()
            while not isinstance(await server.receive(), End):
                pass
            await answer.wait()
            await server.send(Ended(received=1, emitted=1, dropped=0))
            await server.ws.close()

        async with scripted(script) as url, publish(url, "alice") as publisher:
            publisher.offer(BLOCK)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(publisher.end(), 0.01)
            answer.set()
            assert (await publisher.end()).received == 1

    run(main())


def test_what_cannot_be_published_is_refused_before_it_is_sent():
    with pytest.raises(InputError, match=r"model=codec\.fingerprint"):
        publish("ws://127.0.0.1:1", "alice", PublishOptions(format="codes"))

    async def main():
        async def script(server):
            await server.welcome()
            await take_all(server)

        async with scripted(script) as url:
            async with publish(url, "alice") as publisher:
                for block in ([np.nan], np.zeros((2, 9), np.float32), np.zeros(3, np.complex64), [30_000.0]):
                    with pytest.raises(AudioError):
                        publisher.offer(block)
                publisher.offer(np.zeros(0, np.float32))
            async with publish(url, "alice", PublishOptions(format="codes", model=MODEL.fingerprint)) as publisher:
                for shape in ((9, 6), (0, 6), (8, 7), (8, 0), (8,), (1, 8, 6)):
                    with pytest.raises(InputError, match=r"this stream's are \[1 to 8, 1 to 6\]"):
                        publisher.offer(np.zeros(shape, np.int64))
                with pytest.raises(CodesError):
                    publisher.offer(np.full((8, 6), 1024))
                with pytest.raises(CodesError):
                    publisher.offer(np.zeros((8, 6), np.float32))

    run(main())


@pytest.mark.parametrize(
    "changes",
    [
        {"stream": "a b"},
        {"sample_rate": 10},
        {"packet_frames": 0},
        {"packet_frames": 26},
        {"pace": "slow"},
        {"silence_db": 6},
        {"format": "codes", "model": "f00d", "silence_db": -50},
    ],
)
def test_a_hello_that_no_server_would_take_is_refused_at_once(changes):
    with pytest.raises(StreamCodecError):
        publish("ws://127.0.0.1:1", changes.get("stream", "alice"), PublishOptions(**{k: v for k, v in changes.items() if k != "stream"}))
