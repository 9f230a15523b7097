"""What is heard comes as events, and a player makes of them the samples that the stream's own decoder would."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from client_rig import MODEL, codes_packet, run, scripted, start, until
from made_up_models import FEW_LAYERS, save_made_up_model

import streamcodec
from streamcodec.audio import float_to_pcm
from streamcodec.client import Player, listen, now_us
from streamcodec.errors import CodesError, InputError
from streamcodec.protocol import Gap, ListenHello, Packet, StreamEnd, StreamStart, Waiting, pack_codes

PACKET = 1920


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    """A small model that pads by reflection: an exact stream's decoder holds its first packet back."""
    return streamcodec.load(save_made_up_model(tmp_path_factory.mktemp("small"), seed=6, **FEW_LAYERS))


@pytest.fixture(scope="module")
def codes():
    return np.random.default_rng(2).integers(0, 1024, (8, 60))


def packets(codes, first=0, epoch=0):
    return [codes_packet(first + i, codes[:, at : at + 6], epoch) for i, at in enumerate(range(0, codes.shape[1], 6))]


def play(player, events):
    return np.concatenate([player.feed(event) for event in events])


def decoded(codec, codes, kind, bandwidth=6.0):
    decoder = codec.stream_decoder(bandwidth, start=kind)
    return np.concatenate([decoder.feed(codes), decoder.flush()])


# Events ----------------------------------------------------------------------------------------------------------------------------------


def test_events_come_in_order_with_packets_and_losses_counted():
    events = [
        Waiting(stream="alice"),
        start(format="pcm_s16le"),
        Packet(0, 0, 123, 0, bytes(4)),
        Gap(first_seq=1, count=4, reason="slow_listener"),
        Gap(first_seq=5, count=9, reason="silence"),
        Packet(14, 0, 456, 0, bytes(4)),
        StreamEnd(next_seq=15, reason="bye"),
        Waiting(stream="alice"),
    ]
    hellos = []

    async def main():
        async def script(server):
            hellos.append(await server.welcome())
            await server.send(*events)
            await server.ws.wait_closed()

        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le", history_ms=500, token="s3cret") as listener:
            got = [await anext(listener) for _ in events]
            assert got == events
            assert (listener.packets, listener.lost, listener.silent) == (2, 4, 9)
            assert listener.welcome.stream == "alice"
        assert hellos == [
            ListenHello(stream="alice", format="pcm_s16le", history_ms=500, can_move=True, token="s3cret", client="streamcodec")
        ]

    run(main())


def test_a_packet_s_time_is_told_on_this_program_s_clock_across_the_wrap_of_32_bits():
    async def main():
        ahead = 3 * 2**32 + 77_000_000
        times = []

        async def script(server):
            await server.welcome(time=now_us() + ahead)
            times.append(now_us())
            await server.send(start(format="pcm_s16le"), Packet(0, 0, (times[0] + ahead) % 2**32, 0, bytes(4)))
            await server.ws.wait_closed()

        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le") as listener:
            await anext(listener)
            packet = await anext(listener)
            assert abs(listener.captured_us(packet) - times[0]) < 1_000_000

    run(main())


def test_an_event_has_come_when_its_message_came_however_late_it_is_asked_for():
    async def main():
        async def script(server):
            await server.welcome()
            await server.send(start(format="pcm_s16le"), Packet(0, 0, 0, 0, bytes(4)))
            await server.ws.wait_closed()

        begun = now_us()
        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le") as listener:
            await until(lambda: len(listener._connection._ws.arrivals) == 2)
            asked = now_us()
            await anext(listener)
            opened = listener.received_us
            await anext(listener)
            assert begun <= opened <= listener.received_us <= asked

    run(main())


def test_listening_to_codes_needs_a_model_to_decode_them():
    with pytest.raises(InputError, match=r"model=codec\.fingerprint"):
        listen("ws://127.0.0.1:1", "alice")
    assert listen("ws://127.0.0.1:1", "alice", model=MODEL.fingerprint).hello.format == "codes"


def test_leaving_closes_the_connection_in_order():
    async def main():
        closed = asyncio.get_running_loop().create_future()

        async def script(server):
            await server.welcome()
            await server.ws.wait_closed()
            closed.set_result(server.ws.close_code)

        async with scripted(script) as url:
            async with listen(url, "alice", format="pcm_s16le"):
                pass
            assert await closed == 1000

    run(main())


# The player ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exact", "primed"])
def test_codes_become_the_audio_of_a_decoder_that_starts_as_the_stream_did(codec, codes, kind):
    player = Player(codec)
    audio = play(player, [Waiting(stream="a"), start(start=kind), *packets(codes), StreamEnd(next_seq=10)])
    np.testing.assert_allclose(audio, decoded(codec, codes, kind), atol=1e-6)
    assert player.sample_rate == 24_000


@pytest.mark.parametrize("kind", ["exact", "primed", "resumed"])
@pytest.mark.parametrize("history", [1, 3, 10])
def test_history_warms_the_decoder_and_is_not_heard(codec, codes, kind, history):
    events = [start(start=kind, live_seq=history), *packets(codes), StreamEnd(next_seq=10)]
    expected = decoded(codec, codes, "primed" if kind == "resumed" else kind)[history * PACKET :]
    np.testing.assert_allclose(play(Player(codec), events), expected, atol=1e-6)


def test_history_that_a_decoder_still_holds_at_the_end_is_not_heard_either(codec, codes):
    assert play(Player(codec), [start(start="exact", live_seq=1), *packets(codes[:, :6]), StreamEnd(next_seq=1)]).size == 0


def test_a_gap_leaves_the_decoder_as_it_is_and_is_filled_only_where_that_was_asked_for(codec, codes):
    first, _, last = packets(codes)[:2], None, packets(codes[:, 12:], first=5)
    events = [start(), *first, Gap(first_seq=2, count=3), *last, StreamEnd(next_seq=13)]
    expected = decoded(codec, codes, "primed")
    np.testing.assert_allclose(play(Player(codec), events), expected, atol=1e-6)
    filled = play(Player(codec, fill_gaps=True), events)
    silence = np.zeros(3 * PACKET, np.float32)
    np.testing.assert_allclose(filled, np.concatenate([expected[: 2 * PACKET], silence, expected[2 * PACKET :]]), atol=1e-6)


def quiet_talk(codes):
    """Codes [8, 78] as thirteen packets: two loud ones, two of silence, seven that were left out, one of silence and a loud one."""
    cut = [codes[:, at : at + 6] for at in range(0, codes.shape[1], 6)]
    sent = {0: 8, 1: 8, 2: 1, 3: 1, 11: 1, 12: 8}
    events = {i: Packet(i, 0, 0, n_q, pack_codes(cut[i][:n_q], 10)) for i, n_q in sent.items()}
    gap = Gap(first_seq=4, count=7, reason="silence")
    return [start(), *(events[i] for i in (0, 1, 2, 3)), gap, events[11], events[12], StreamEnd(next_seq=13)], [
        cut[i][: sent[i]] for i in sent
    ]


def test_a_pause_is_filled_with_noise_as_loud_as_what_was_sent_of_it_and_the_speech_behind_it_is_whole(codec):
    rng = np.random.default_rng(0)
    events, sent = quiet_talk(rng.integers(0, 1024, (8, 78)))
    decoder = codec.stream_decoder(6.0, start="primed")
    expected = np.concatenate([*(decoder.feed(packet) for packet in sent), decoder.flush()])
    np.testing.assert_allclose(play(Player(codec), events), expected, atol=1e-6)
    heard = play(Player(codec, fill_gaps=True), events)
    assert heard.size == 13 * PACKET
    np.testing.assert_allclose(heard[: 4 * PACKET], expected[: 4 * PACKET], atol=1e-6)
    # Under the first 5 ms behind it the noise fades; and for what comes then the decoder has seen as much of the pause as there was.
    decoder = codec.stream_decoder(6.0, start="primed")
    parts = [decoder.feed(packet) for packet in sent[:5]]
    for i in range(7):
        decoder.feed(sent[2:5][(7 + i) % 3])
    expected = np.concatenate([*parts, decoder.feed(sent[5]), decoder.flush()])
    np.testing.assert_allclose(heard[11 * PACKET + 120 :], expected[4 * PACKET + 120 :], atol=1e-6)
    quiet, noise = heard[2 * PACKET : 4 * PACKET], heard[4 * PACKET : 11 * PACKET]
    # Most of what an untrained decoder makes is so low that it cannot be measured better in so little of it.
    assert 20 * np.log10(np.std(noise) / np.std(quiet)) == pytest.approx(0, abs=2)
    np.testing.assert_array_equal(heard, play(Player(codec, fill_gaps=True), events))


def test_a_live_player_catches_up_with_a_pause_when_it_is_told_to_and_forgets_it_when_something_comes(codec):
    events, _ = quiet_talk(np.random.default_rng(0).integers(0, 1024, (8, 78)))
    plain, all_of_it, some = Player(codec), Player(codec), Player(codec)
    heard = {player: [player.feed(event) for event in events[:7]] for player in (plain, all_of_it, some)}
    assert [player.behind for player in heard] == [7, 7, 7]
    for _ in range(9):
        all_of_it.catch_up()
    for _ in range(3):
        some.catch_up()
    assert [player.behind for player in heard] == [7, 0, 4]
    last = [player.feed(events[7]) for player in heard]
    assert [player.behind for player in heard] == [0, 0, 0]
    filled = Player(codec, fill_gaps=True)
    np.testing.assert_array_equal(last[1], [filled.feed(event) for event in events[:8]][-1])
    assert np.abs(last[0] - last[1]).max() > 0 and np.abs(last[2] - last[1]).max() > 0


def test_a_player_says_which_packets_are_silence(codec):
    events, _ = quiet_talk(np.zeros((8, 78), np.int64))
    player, told = Player(codec), []
    for event in events:
        player.feed(event)
        told.append(player.quiet)
    assert told[1:] == [False, False, True, True, True, True, False, False]


@pytest.mark.parametrize(("db", "quiet"), [(-120.0, True), (-51.0, True), (-49.0, False), (-20.0, False)])
@pytest.mark.parametrize("format", ["pcm_s16le", "pcm_f32le"])
def test_a_packet_of_pcm_is_silence_where_it_sounds_so(db, quiet, format):
    player = Player()
    player.feed(start(format=format))
    x = (10 ** (db / 20) * np.random.default_rng(0).standard_normal(PACKET)).astype(np.float32)
    player.feed(Packet(0, 0, 0, 0, float_to_pcm(x, format)))
    assert player.quiet is quiet


def test_a_pause_of_pcm_is_filled_with_noise_too():
    player = Player(fill_gaps=True)
    player.feed(start(format="pcm_f32le"))
    assert not player.feed(Gap(first_seq=0, count=1, reason="silence")).any(), "nothing is known of it"
    x = (0.001 * np.random.default_rng(0).standard_normal(PACKET)).astype(np.float32)
    player.feed(Packet(1, 0, 0, 0, float_to_pcm(x, "pcm_f32le")))
    noise = player.feed(Gap(first_seq=2, count=5, reason="silence"))
    assert noise.size == 5 * PACKET
    assert 20 * np.log10(np.std(noise) / np.std(x)) == pytest.approx(0, abs=1)
    assert not player.feed(Gap(first_seq=7, count=1, reason="overload")).any(), "what was lost is not made up"


def test_a_long_gap_is_filled_in_parts_and_one_of_more_than_a_day_is_refused():
    player = Player(fill_gaps=True)
    player.feed(start(format="pcm_s16le"))
    parts = [player.feed(piece).size for piece in player.pieces(Gap(first_seq=0, count=1000))]
    assert sum(parts) == 1000 * PACKET and max(parts) <= 8 * 24_000
    for feed in (player.feed, lambda gap: next(player.pieces(gap))):
        with pytest.raises(CodesError, match="a gap of 95444 hours, expected at most 24"):
            feed(Gap(first_seq=0, count=2**32 - 1))
    live = Player()
    live.feed(start(format="pcm_s16le"))
    assert live.feed(Gap(first_seq=0, count=2**32 - 1)).size == 0


@pytest.mark.parametrize(("first_seq", "count", "filled"), [(0, 3, 0), (0, 6, 1), (4, 2, 1), (5, 2, 2)])
def test_of_a_gap_only_what_lies_behind_the_history_is_filled(first_seq, count, filled):
    player = Player(fill_gaps=True)
    player.feed(start(format="pcm_s16le", live_seq=5))
    assert player.feed(Gap(first_seq=first_seq, count=count)).size == filled * PACKET


def test_an_epoch_starts_the_decoder_afresh_and_brings_out_what_the_old_one_held(codec, codes):
    second = start(start="exact", epoch=1, first_seq=1, live_seq=1)
    events = [start(start="exact"), *packets(codes[:, :6]), second, *packets(codes[:, 6:], 1, 1), StreamEnd(next_seq=10)]
    expected = [decoded(codec, part, "exact") for part in (codes[:, :6], codes[:, 6:])]
    np.testing.assert_allclose(play(Player(codec), events), np.concatenate(expected), atol=1e-6)


def test_the_next_stream_may_have_another_bandwidth(codec, codes):
    events = [start(n_q=8), *packets(codes), StreamEnd(next_seq=10)]
    events += [start(n_q=2, bandwidth=1.5), *packets(codes[:2]), StreamEnd(next_seq=10)]
    expected = [decoded(codec, codes, "primed"), decoded(codec, codes[:2], "primed", 1.5)]
    np.testing.assert_allclose(play(Player(codec), events), np.concatenate(expected), atol=1e-6)


@pytest.mark.parametrize("format", ["pcm_s16le", "pcm_f32le"])
def test_pcm_needs_no_model_and_its_history_is_not_heard(format):
    x = (np.arange(4 * PACKET) % 100 / 128).astype(np.float32)
    parts = [Packet(i, 0, 0, 0, float_to_pcm(x[i * PACKET : (i + 1) * PACKET], format)) for i in range(4)]
    events = [start(format=format, live_seq=1), *parts[:2], Gap(first_seq=2, count=1), parts[3], StreamEnd(next_seq=4)]
    np.testing.assert_allclose(play(Player(), events), np.concatenate([x[PACKET : 2 * PACKET], x[3 * PACKET :]]), atol=1e-4)
    filled = play(Player(fill_gaps=True), events)
    assert filled.size == 3 * PACKET
    assert not filled[PACKET : 2 * PACKET].any()


def test_codes_without_a_codec_are_an_input_error():
    with pytest.raises(InputError, match="needs the codec"):
        Player().feed(start())


def test_what_comes_before_any_stream_is_silent():
    player = Player(fill_gaps=True)
    assert player.feed(Waiting(stream="a")).size == 0
    assert player.feed(StreamEnd(next_seq=0)).size == 0
    assert isinstance(start(), StreamStart)
