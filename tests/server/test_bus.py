"""One contract, two buses: in memory, and NATS with a real server."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from bus_rig import NATS_SERVER, MemorySite, NatsSite, Site, at
from live_rig import until
from patience import TIMEOUT_S
from programs import needs

from streamcodec.server.cluster.bus import Bus, BusError, KeyChangedError

both = pytest.mark.parametrize("kind", ["memory", pytest.param("nats", marks=needs(NATS_SERVER))])
SUBJECT = "streamcodec.test.live.one"
SOON_S = 0.3


@pytest.fixture
def site(kind: str, tmp_path: Path) -> Site:
    return MemorySite() if kind == "memory" else NatsSite(tmp_path)


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


async def connected(bus: Bus, now: bool) -> None:
    await until(lambda: bus.connected is now, f"connected is not {now}")


async def lost(site: Site, bus: Bus) -> None:
    site.cut(bus)
    await connected(bus, False)


async def found_again(site: Site, bus: Bus) -> None:
    there: list[bool] = []
    bus.on_connected(there.append)
    await site.heal(bus)
    await until(lambda: there == [True], "the connection is not there again")


# Messages -------------------------------------------------------------------------------------------------------------------------------


@both
def test_messages_reach_all_who_subscribe_in_order_and_nobody_else(site: Site) -> None:
    async def main(site: Site) -> None:
        sender, *others = [await site.node() for _ in range(3)]
        heard: list[list[bytes]] = [[], [], []]
        for bus, got in zip((sender, *others), heard, strict=True):
            bus.subscribe(SUBJECT, got.append)
            await bus.flush()
        elsewhere: list[bytes] = []
        others[0].subscribe(f"{SUBJECT}.other", elsewhere.append)
        await others[0].flush()
        for data in numbered(100):
            sender.publish(SUBJECT, data)
        await until(lambda: all(got == numbered(100) for got in heard))
        assert elsewhere == []

    at(site, main)


@both
def test_a_closed_subscription_takes_nothing_more(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = await site.node(), await site.node()
        closed: list[bytes] = []
        open_: list[bytes] = []
        subscription = other.subscribe(SUBJECT, closed.append)
        subscription.close()
        subscription.close()
        other.subscribe(SUBJECT, open_.append)
        await other.flush()
        one.publish(SUBJECT, b"heard")
        await until(lambda: open_ == [b"heard"])
        assert closed == []

    at(site, main)


@both
def test_of_too_many_messages_the_newest_are_dropped_and_counted(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = await site.node(), await site.node()
        got: list[bytes] = []
        everything: list[bytes] = []
        slow = other.subscribe(SUBJECT, got.append, max_waiting=10)
        fast = other.subscribe(SUBJECT, everything.append)
        await other.flush()
        await site.burst(other, lambda: [one.publish(SUBJECT, data) for data in numbered(60)] and None, 120)
        await until(lambda: everything == numbered(60))
        assert (got, slow.dropped, fast.dropped) == (numbered(10), 50, 0)
        one.publish(SUBJECT, b"later")
        await until(lambda: got[10:] == [b"later"])

    at(site, main)


@both
def test_what_was_published_before_a_bus_is_closed_is_sent(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = await site.node(), await site.node()
        got: list[bytes] = []
        other.subscribe(SUBJECT, got.append)
        await other.flush()
        for data in numbered(20):
            one.publish(SUBJECT, data)
        await one.close()
        one.publish(SUBJECT, b"too late")
        await until(lambda: len(got) >= 20)
        await other.flush()
        assert got == numbered(20)

    at(site, main)


# Questions ------------------------------------------------------------------------------------------------------------------------------


@both
def test_a_question_gets_its_answer_and_many_at_once_get_theirs(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = await site.node(), await site.node()

        async def answering(data: bytes) -> bytes:
            return data + b"!"

        other.answer("q", answering)
        await other.flush()
        assert await asyncio.gather(*(one.ask("q", data, TIMEOUT_S) for data in numbered(50))) == [data + b"!" for data in numbered(50)]

    at(site, main)


@both
def test_where_nobody_could_answer_the_asker_hears_so_at_once(site: Site) -> None:
    """It would wait ten minutes otherwise, and so would this test."""

    async def main(site: Site) -> None:
        one, other = await site.node(), await site.node()

        async def answering(data: bytes) -> bytes:
            return data

        with pytest.raises(BusError, match="nobody answers"):
            await one.ask("q", b"", TIMEOUT_S)
        answers = other.answer("q", answering)
        await other.flush()
        assert await one.ask("q", b"here", TIMEOUT_S) == b"here"
        answers.close()
        await other.flush()
        with pytest.raises(BusError, match="nobody answers"):
            await one.ask("q", b"", TIMEOUT_S)

    at(site, main)


@both
def test_who_does_not_answer_in_time_or_fails_is_given_up(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async def main(site: Site) -> None:
        one, other = await site.node(), await site.node()

        async def never(_: bytes) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

        async def failing(_: bytes) -> bytes:
            raise ValueError("a fault of this node's")

        other.answer("never", never)
        other.answer("failing", failing)
        await other.flush()
        for subject in ("never", "failing"):
            with pytest.raises(BusError):
                await one.ask(subject, b"", SOON_S)
        await until(lambda: "a fault of this node's" in caplog.text)

    at(site, main)


@both
def test_a_question_ends_with_the_connection(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = await site.node(), await site.node()
        asked = asyncio.Event()

        async def never(_: bytes) -> bytes:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        other.answer("q", never)
        await other.flush()
        question = asyncio.create_task(one.ask("q", b"", TIMEOUT_S))
        await asked.wait()
        site.cut(one)
        with pytest.raises(BusError, match="lost"):
            await question

    at(site, main)


# Keys -----------------------------------------------------------------------------------------------------------------------------------


@both
def test_a_key_changes_only_from_what_it_was_expected_to_be(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = [(await site.node()).store("names") for _ in range(2)]
        assert await one.get("k") is None
        first = await one.create("k", b"1")
        with pytest.raises(KeyChangedError):
            await other.create("k", b"2")
        second = await other.update("k", b"2", first)
        assert second > first
        with pytest.raises(KeyChangedError):
            await one.update("k", b"3", first)
        with pytest.raises(KeyChangedError):
            await one.delete("k", first)
        entry = await one.get("k")
        assert entry is not None and (entry.value, entry.revision) == (b"2", second)
        await one.delete("k", second)
        assert await other.get("k") is None
        with pytest.raises(KeyChangedError):
            await other.update("k", b"3", second)
        third = await other.create("k", b"3")
        assert third > second
        assert await one.put("k", b"4") > third
        await one.delete("k")
        await one.delete("k")
        assert await other.get("k") is None
        assert await one.put("a=2Eb", b"") > third
        entry = await other.get("a=2Eb")
        assert entry is not None and entry.value == b""

    at(site, main)


@both
def test_of_many_who_create_a_key_at_once_one_does(site: Site) -> None:
    async def main(site: Site) -> None:
        stores = [(await site.node()).store("names") for _ in range(3)]

        async def create(store: object, key: str, value: bytes) -> bool:
            try:
                await store.create(key, value)
            except KeyChangedError:
                return False
            return True

        for round_ in range(5):
            key = f"k{round_ % 2}"  # also one that was there before
            won = await asyncio.gather(*(create(store, key, b"%d" % n) for n, store in enumerate(stores * 4)))
            assert won.count(True) == 1
            entry = await stores[0].get(key)
            assert entry is not None and entry.value == b"%d" % won.index(True)
            await stores[1].delete(key, entry.revision)

    at(site, main)


@both
def test_no_change_is_lost_where_all_change_one_key(site: Site) -> None:
    async def main(site: Site) -> None:
        stores = [(await site.node()).store("names") for _ in range(3)]
        await stores[0].create("count", b"0")

        async def count(store: object, times: int) -> None:
            while times:
                entry = await store.get("count")
                try:
                    await store.update("count", b"%d" % (int(entry.value) + 1), entry.revision)
                except KeyChangedError:
                    continue
                times -= 1

        await asyncio.gather(*(count(store, 10) for store in stores))
        entry = await stores[0].get("count")
        assert entry is not None and entry.value == b"30"

    at(site, main)


@both
def test_a_key_that_is_not_renewed_goes_and_may_be_created_again(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = [(await site.node()).store("nodes", ttl_s=1.0) for _ in range(2)]
        told: list[tuple[str, bytes | None]] = []
        other.watch(lambda key, entry: told.append((key, entry and entry.value)))
        await one.create("k", b"1")
        await until(lambda: told == [("k", b"1"), ("k", None)], "nobody was told that the key has gone")
        for wait_s in itertools.repeat(0.01):  # a watch and the store need not have the same clock
            try:
                await one.create("k", b"2")
                break
            except KeyChangedError:
                await asyncio.sleep(wait_s)
        await until(lambda: told[2:3] == [("k", b"2")])

    at(site, main)


@both
def test_a_watch_tells_what_is_there_and_what_changes(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = [(await site.node()).store("names") for _ in range(2)]
        await one.create("before", b"1")
        await one.create("gone", b"1")
        await one.delete("gone")
        state: dict[str, bytes] = {}
        last: list[str] = []

        def changed(key: str, entry: object) -> None:
            last.append(key)
            if entry is None:
                del state[key]
            else:
                state[key] = entry.value

        watch = other.watch(changed)
        await until(lambda: state == {"before": b"1"})
        revision = await one.create("after", b"2")
        await one.update("after", b"3", revision)
        await one.delete("before")
        await until(lambda: state == {"after": b"3"})
        watch.close()
        still: list[str] = []
        other.watch(lambda key, _: still.append(key))
        await one.put("later", b"4")
        await until(lambda: "later" in still)
        assert "later" not in last

    at(site, main)


# Connections that are lost ------------------------------------------------------------------------------------------------------------


@both
def test_a_node_that_is_cut_off_fails_at_once_and_goes_on_where_the_bus_is_back(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = await site.node(), await site.node()
        told: list[bool] = []
        one.on_connected(told.append)
        got: list[bytes] = []
        back: list[bytes] = []
        other.subscribe(SUBJECT, got.append)
        one.subscribe("back", back.append)
        await other.flush()
        await one.flush()
        one.publish(SUBJECT, b"before")
        await until(lambda: got == [b"before"])
        await lost(site, one)
        await until(lambda: told == [False])
        one.publish(SUBJECT, b"meanwhile")
        other.publish("back", b"meanwhile")
        store = one.store("names")
        for what in (one.flush(), one.ask("q", b"", TIMEOUT_S), store.get("k"), store.create("k", b""), store.delete("k")):
            with pytest.raises(BusError):
                await what
        new: list[bytes] = []
        one.subscribe("new", new.append)
        await site.heal(one)
        await until(lambda: told == [False, True])
        one.publish(SUBJECT, b"after")
        other.publish("back", b"after")
        other.publish("new", b"after")
        await until(lambda: len(got) > 1 and back and new)
        assert (got, back, new) == ([b"before", b"after"], [b"after"], [b"after"]), "nothing stale comes"
        await one.store("names").create("k", b"")

    at(site, main)


@both
def test_a_watch_tells_after_a_partition_what_changed_meanwhile(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = await site.node(), await site.node()
        state: dict[str, bytes | None] = {}
        other.store("names").watch(lambda key, entry: state.update({key: None if entry is None else entry.value}))
        store = one.store("names")
        for key in ("stays", "changes", "goes"):
            await store.create(key, b"1")
        await until(lambda: len(state) == 3)
        await lost(site, other)
        await store.put("changes", b"2")
        await store.delete("goes")
        await store.create("comes", b"1")
        await found_again(site, other)
        await until(lambda: state == {"stays": b"1", "changes": b"2", "goes": None, "comes": b"1"})

    at(site, main)


@both
def test_the_bus_may_be_killed_and_comes_back_without_its_keys(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = await site.node(), await site.node()
        got: list[bytes] = []
        state: dict[str, bytes | None] = {}
        other.subscribe(SUBJECT, got.append)

        async def answering(data: bytes) -> bytes:
            return data

        other.answer("q", answering)
        other.store("names").watch(lambda key, entry: state.update({key: None if entry is None else entry.value}))
        await one.store("names").create("k", b"1")
        await until(lambda: state == {"k": b"1"})
        for _ in range(2):
            back = {bus: list[bool]() for bus in (one, other)}
            for bus, told in back.items():
                bus.on_connected(told.append)
            await site.kill()
            await until(lambda told=back: [False] == told[one] == told[other])
            await site.restart()
            await until(lambda told=back: [False, True] == told[one] == told[other])
            await until(lambda: state["k"] is None)
            one.publish(SUBJECT, b"again")
            assert await one.ask("q", b"again", TIMEOUT_S) == b"again"
            assert await one.store("names").get("k") is None
            await one.store("names").create("k", b"2")
            await until(lambda: state["k"] == b"2" and got[-1:] == [b"again"])
            got.clear()

    at(site, main)


@both
def test_a_bus_that_cannot_be_reached_is_not_opened(site: Site) -> None:
    async def main(site: Site) -> None:
        await site.kill()
        with pytest.raises(BusError, match="cannot be reached"):
            await site.node()

    at(site, main)
