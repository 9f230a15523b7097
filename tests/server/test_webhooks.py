"""Events reach the webhook signed and in order, are sent again where they did not, and hold nobody up."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json

import httpx2
import pytest
from patience import pass_time, run_patiently
from server_rig import OURS, figures, listen_hello, packet, publish_hello, raw, run, serving, small_limits, until

from streamcodec.errors import InputError
from streamcodec.server import Operations, Tokens, Webhooks
from streamcodec.server.events import ServerEvent
from streamcodec.server.rate import Rate
from streamcodec.server.webhooks import MAX_WAITING, RETRY_AFTER_S, WebhookQueue, secret_of, sign

NOW = 1_800_000_000.0
KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
URL = "https://hooks.example/streamcodec"


class Receiver:
    """The program behind the webhook: what it got, and with which status it answers next."""

    def __init__(self, *statuses):
        self.statuses = list(statuses)
        self.got = []
        self.asked = 0

    async def __call__(self, request):
        self.asked += 1
        status = self.statuses.pop(0) if self.statuses else 204
        if status == "broken":
            raise RuntimeError("a fault that nobody knows")
        if status is None:
            raise httpx2.ConnectError("refused")
        number, when = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        signed = hmac.digest(KEY, f"{number}.{when}.".encode() + request.content, hashlib.sha256)
        assert request.headers["webhook-signature"] == f"v1,{base64.b64encode(signed).decode()}"
        if status < 300:
            self.got.append((number, json.loads(request.content)))
        return httpx2.Response(status)

    def at(self):
        return Webhooks(URL, SECRET, lambda: NOW, transport=httpx2.MockTransport(self))

    def told(self, kind):
        return [event["data"] for _, event in self.got if event["type"] == kind]


def test_a_signature_is_that_of_the_specification():
    """Made by openssl: printf "msg_1.1800000000.{}" | openssl dgst -sha256 -hmac kkkkkkkkkkkkkkkkkkkkkkkk -binary | base64"""
    assert sign(b"k" * 24, "msg_1", 1_800_000_000, b"{}") == "v1,/EgSY+8CGRL5gDGVR4Lwc1VR68AjgIMS1kZeoRoC5MI="


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_!!!", SECRET.removeprefix("whsec_"), "whsec_" + "QUFB" * 5, "whsec_" + "QUFB" * 23]
)
def test_a_secret_that_is_none_is_refused_and_not_told(secret):
    with pytest.raises(InputError, match="24 to 64 bytes in base64") as caught:
        secret_of(secret)
    assert len(secret) < 10 or secret not in str(caught.value)


@pytest.mark.parametrize("url", ["http://hooks.example", "https://user:pass@hooks.example", "hooks"])
def test_a_url_that_others_could_read_is_refused(url):
    with pytest.raises(InputError, match="the webhook's URL"):
        Webhooks(url, SECRET, lambda: NOW)


def test_the_queue_is_bounded_and_adds_up_what_comes_in_floods():
    queue = WebhookQueue()
    queue.put(ServerEvent("stream.started", {"stream": "a"}))
    for n in range(5000):
        queue.put(ServerEvent("client.refused", {"code": "unauthorized", "address": str(n), "count": 1}, "unauthorized"))
        queue.put(ServerEvent("stream.gap", {"stream": "a", "packets": 2, "count": 1}, "a overload", ("packets", "count")))
    assert (len(queue), queue.dropped) == (3, 0)
    for _ in range(MAX_WAITING):
        queue.put(ServerEvent("stream.ended", {}))
    assert (len(queue), queue.dropped) == (MAX_WAITING, 3)
    assert queue.take()[1].kind == "stream.started"
    assert queue.take()[1].data == {"code": "unauthorized", "address": "4999", "count": 5000}
    assert queue.take()[1].data == {"stream": "a", "packets": 10_000, "count": 5000}


def test_an_event_that_was_not_taken_is_sent_again_under_its_id_and_the_next_one_waits():
    receiver = Receiver(500, None, 302)

    async def main():
        hooks = receiver.at()
        hooks.start()
        for n in range(2):
            hooks.put(ServerEvent("stream.started", {"n": n}))
        for tries, wait_s in enumerate(RETRY_AFTER_S[:3], 1):
            await until(lambda tries=tries: hooks.counts["retried"] == tries)
            assert receiver.asked == tries and receiver.got == []
            await pass_time(1.2 * wait_s + 0.1)
        await until(lambda: hooks.counts["delivered"] == 2)
        assert [event["data"]["n"] for _, event in receiver.got] == [0, 1]
        assert len({number for number, _ in receiver.got}) == 2
        assert receiver.got[0][1]["timestamp"] == "2027-01-15T08:00:00.000+00:00"
        await hooks.close(1)

    run_patiently(main())


def test_an_event_that_is_never_taken_is_given_up_and_counted(caplog):
    receiver = Receiver(*[500] * (len(RETRY_AFTER_S) + 1))

    async def main():
        hooks = receiver.at()
        hooks.start()
        hooks.put(ServerEvent("stream.started", {}))
        hooks.put(ServerEvent("stream.ended", {}))
        for tries, wait_s in enumerate(RETRY_AFTER_S, 1):
            await until(lambda tries=tries: hooks.counts["retried"] == tries)
            await pass_time(1.2 * wait_s + 0.1)
        await until(lambda: hooks.counts["delivered"] == 1)
        assert (hooks.counts["failed"], receiver.got[0][1]["type"]) == (1, "stream.ended")
        await hooks.close(1)

    run_patiently(main())
    assert "the webhook takes no events" in caplog.text


def test_a_fault_that_nobody_knows_is_told_once_and_the_events_go_on(caplog):
    receiver = Receiver("broken", "broken")

    async def main():
        hooks = receiver.at()
        hooks.start()
        hooks.put(ServerEvent("stream.started", {}))
        for tries, wait_s in enumerate(RETRY_AFTER_S[:2], 1):
            await until(lambda tries=tries: hooks.counts["retried"] == tries)
            await pass_time(1.2 * wait_s + 0.1)
        await until(lambda: hooks.counts["delivered"] == 1)
        await hooks.close(1)

    run_patiently(main())
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_a_receiver_that_hangs_holds_up_neither_a_stream_nor_the_stop():
    hangs = asyncio.Event()

    async def never(_):
        hangs.set()
        await asyncio.Event().wait()

    hooks = []

    async def main():
        hooks.append(Webhooks(URL, SECRET, lambda: NOW, transport=httpx2.MockTransport(never)))
        async with serving(operations=Operations(webhooks=hooks[0])) as server, raw(server.url) as publisher:
            await publisher.send(publish_hello())
            assert (await publisher.receive())["type"] == "welcome"
            await hangs.wait()
            await publisher.send(packet(0))
            await publisher.send({"type": "end", "last_seq": 0})
            assert (await publisher.receive())["type"] == "ended"

    run(main())
    assert hooks[0].queue.dropped == 1 and not hooks[0].counts["delivered"]


def test_starts_ends_gaps_and_refusals_are_told():
    receiver = Receiver()

    async def main():
        limits = small_limits(bound_loopback=True, refused_tokens=Rate(1e-6, 1))
        operations = Operations(webhooks=receiver.at())
        async with serving(operations=operations, tokens=Tokens(publish=["right"]), limits=limits) as server:
            async with raw(server.url) as publisher, raw(server.url) as listener:
                await listener.send(listen_hello("here", format="codes", model=OURS))
                await publisher.send(publish_hello("here", token="right"))
                assert (await publisher.receive())["type"] == "welcome"
                await publisher.send(packet(0))
                for first, count, reason in ((1, 4, "publisher"), (5, 10, "silence")):
                    await publisher.send({"type": "gap", "first_seq": first, "count": count, "reason": reason})
                await publisher.send({"type": "end", "last_seq": 14})
                while (await publisher.receive())["type"] != "ended":
                    pass
            for _ in range(3):
                async with raw(server.url) as guest:
                    await guest.send(publish_hello("here", token="a-guess"))
                    await guest.last_word()
            await until(lambda: sum(one["count"] for one in receiver.told("client.refused")) == 3)
            assert (await figures(server))["webhook_events_total{outcome=delivered}"] == len(receiver.got)
        assert receiver.told("stream.started") == [{"stream": "here", "format": "codes", "bandwidth_kbps": 6.0}]
        [ended] = receiver.told("stream.ended")
        assert (ended["stream"], ended["reason"], ended["packets"]) == ("here", "the publisher ended it", 1)
        assert receiver.told("stream.gap") == [{"stream": "here", "reason": "publisher", "packets": 4, "count": 1}]
        refused = receiver.told("client.refused")
        assert {one.get("code") or one["limit"] for one in refused} == {"unauthorized", "tokens"}, "one event for one refusal"
        assert "a-guess" not in str(receiver.got)

    run(main())
