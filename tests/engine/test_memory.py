"""What ended streams leave is given back in idle moments, now and then, and only if there is something."""

from streamcodec.engine.memory import MemoryReturn


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
            memory.left()
        memory.idle()
    assert trimmed == [30.0, 60.0]


def test_nothing_is_done_where_nothing_ended() -> None:
    clock, trimmed = Clock(), []
    memory = MemoryReturn(1.0, lambda: trimmed.append(clock.now), clock)
    clock.now = 100.0
    memory.idle()
    assert trimmed == []


def test_the_system_s_own_way_works_here() -> None:
    memory = MemoryReturn(0.0)
    memory.left()
    memory.idle()
