"""The memory of ended streams is returned in idle moments, at intervals, and only if a stream has ended."""

from streamcodec.config import CodecConfig
from streamcodec.engine.torch import TorchEngine
from streamcodec.model.encodec import EncodecModel
from streamcodec.scheduler.memory import MemoryReturn


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_memory_goes_back_in_an_idle_moment_after_a_stream_ended_and_not_too_often() -> None:
    clock, trimmed = Clock(), []
    memory = MemoryReturn(30.0, lambda: trimmed.append(clock.now), clock)
    for second in range(200):
        clock.now = second
        if second in (10, 50, 55):
            memory.stream_ended()
        memory.check(idle=True)
    assert trimmed == [30.0, 60.0]


def test_without_an_idle_moment_it_trims_after_twice_the_time() -> None:
    clock, trimmed = Clock(), []
    memory = MemoryReturn(30.0, lambda: trimmed.append(clock.now), clock)
    for second in range(100):
        clock.now = second
        memory.stream_ended()
        memory.check(idle=False)
    assert trimmed == [60.0]


def test_nothing_is_trimmed_if_no_stream_ended() -> None:
    clock, trimmed = Clock(), []
    memory = MemoryReturn(1.0, lambda: trimmed.append(clock.now), clock)
    clock.now = 100.0
    memory.check(idle=True)
    assert trimmed == []


def test_the_default_trim_works_here() -> None:
    memory = MemoryReturn(0.0)
    memory.stream_ended()
    memory.check(idle=True)


def test_a_stream_of_the_full_size_model_takes_less_than_64_kib_each_way() -> None:
    engine = TorchEngine(EncodecModel(CodecConfig()))
    for floats in (engine.traits.encoder_state_size, engine.traits.decoder_state_size):
        assert 4 * floats < 64 * 1024
