"""The private port of a server of several processes: each answer is made of theirs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from prometheus_client.core import Metric

from streamcodec.errors import InputError
from streamcodec.server.admin import NARROWED, OperatorGuard, asked_of, done, json_reply, told
from streamcodec.server.draining import Draining
from streamcodec.server.metrics import counter_family, gauge_family
from streamcodec.server.ports.routes import HttpReply, HttpRequest, Route
from streamcodec.server.processes.asking import AskedProcesses, ProcessAnswer
from streamcodec.server.processes.figures import OPEN_METRICS, labelled_by_process, rendered
from streamcodec.server.processes.supervisor import Supervisor

__all__ = ["Front"]


class Front:
    """The routes of the private port of all processes that `supervisor` runs, which are asked by `asked`.

    With a `guard` there are those of `admin`, too. `drain` is told how long a drain may take (None: as set).
    """

    def __init__(
        self, supervisor: Supervisor, asked: AskedProcesses, guard: OperatorGuard | None, drain: Callable[[float | None], None]
    ) -> None:
        self._supervisor = supervisor
        self._asked = asked
        self._guard = guard
        self._drain = drain
        self._narrowed: list[bytes] = []

    @property
    def routes(self) -> list[Route]:
        """For the private port."""
        health = [Route("GET", "/healthz", self._healthz), Route("GET", "/readyz", self._readyz), Route("GET", "/metrics", self._metrics)]
        if self._guard is None:
            return health
        table = (
            ("GET", "/admin/streams", self._listed("streams", lambda one: one["stream"])),
            ("GET", "/admin/listeners", self._listed("listeners", lambda one: (one["stream"], one["since"]))),
            ("GET", "/admin/nodes", self._nodes),
            ("POST", "/admin/streams/{name}/end", self._end_stream),
            ("POST", "/admin/sessions/{id}/end", self._of_session("end")),
            ("POST", "/admin/sessions/{id}/grant", self._of_session("grant")),
            ("POST", "/admin/drain", self._begin_drain),
        )
        return health + [Route(method, path, handler, guard=self._guard) for method, path, handler in table]

    async def tell_narrowed(self, number: int) -> None:
        """Let a process that has started again know which tokens were narrowed before."""
        others = [one.number for one in self._supervisor.processes if one.number != number]
        for body in self._narrowed:
            await self._asked.ask("POST", NARROWED, body, without=others)

    # Health and figures --------------------------------------------------------------------------------------------------------------

    async def _healthz(self, _: HttpRequest) -> HttpReply:
        """All processes that run are well. One that is being started again is in good hands."""
        answers = await self._asked.ask("GET", "/healthz")
        return _verdict(answers, bool(answers) and all(one.ok for one in answers))

    async def _readyz(self, _: HttpRequest) -> HttpReply:
        """One process takes clients, at least."""
        answers = await self._asked.ask("GET", "/readyz")
        return _verdict(answers, not self._supervisor.ending and any(one.ok for one in answers))

    async def _metrics(self, request: HttpRequest) -> HttpReply:
        answers = await self._asked.ask("GET", "/metrics", accept=OPEN_METRICS)
        families = labelled_by_process({one.number: one.text for one in answers if one.ok})
        text, media_type = rendered([*families, *self._families()], ", ".join(request.headers.get_all("Accept")))
        return HttpReply(HTTPStatus.OK, text, media_type)

    def _families(self) -> Iterable[Metric]:
        processes = self._supervisor.processes
        up = {str(one.number): float(one.told is not None) for one in processes}
        restarts = {str(one.number): float(one.restarts.count) for one in processes}
        yield gauge_family("processes_up", "Whether a process of the server serves.", up, "process")
        yield counter_family("processes_restarted", "How often a process was started again, as it had died.", restarts, "process")

    # Administration ------------------------------------------------------------------------------------------------------------------

    def _listed(self, what: str, order: Callable[[Any], Any]) -> Callable[[HttpRequest], Any]:
        async def listed(request: HttpRequest) -> HttpReply:
            answers = await self._asked.ask("GET", request.path)
            found = [{**entry, "process": one.number} for one in answers for entry in one.value.get(what, ())]
            return json_reply({what: sorted(found, key=order)})

        return listed

    async def _nodes(self, request: HttpRequest) -> HttpReply:
        """Each process knows all nodes, and is one."""
        found: dict[str, Any] = {}
        for one in await self._asked.ask("GET", request.path):
            for node in one.value.get("nodes", ()):
                if node["here"] or node["node"] not in found:
                    found[node["node"]] = node
        return json_reply({"nodes": sorted(found.values(), key=lambda node: (not node["here"], node["address"], node["node"]))})

    async def _end_stream(self, request: HttpRequest) -> HttpReply:
        path = f"/admin/streams/{quote(request.placeholders['name'], safe='')}/end"
        return _one_answer(await self._asked.ask("POST", path, request.body))

    def _of_session(self, what: str) -> Callable[[HttpRequest], Any]:
        async def act(request: HttpRequest) -> HttpReply:
            path = f"/admin/sessions/{quote(request.placeholders['id'], safe='')}/{what}"
            answers = await self._asked.ask("POST", path, request.body)
            for one in answers:
                if one.ok and (narrowed := one.value.get("narrowed")) is not None:
                    await self._narrow(narrowed, one.number)
            return _one_answer(answers)

        return act

    async def _narrow(self, narrowed: Any, known_to: int) -> None:
        """What holds for the token of a session of one process holds in all of them, also in those that start later."""
        body = json.dumps(narrowed).encode()
        self._narrowed.append(body)
        await self._asked.ask("POST", NARROWED, body, without=[known_to])

    async def _begin_drain(self, request: HttpRequest) -> HttpReply:
        try:
            asked = asked_of(request, {"seconds", "to"})
            if asked.get("seconds") is not None or asked.get("to") is not None:
                Draining(lambda: 0.0).begin(asked.get("seconds", 1.0), asked.get("to"))  # whether it can be
        except InputError as exc:
            return told(HTTPStatus.BAD_REQUEST, str(exc))
        await self._asked.ask("POST", request.path, request.body)
        return done(lambda: self._drain(asked.get("seconds")))


def _verdict(answers: list[ProcessAnswer], well: bool) -> HttpReply:
    complaints = [f"process {one.number}: {one.text.strip() or 'no answer'}" for one in answers if not one.ok]
    text = "\n".join(complaints) or ("ok" if well else "no process serves")
    return HttpReply(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, "ok\n" if well else f"{text}\n")


def _one_answer(answers: list[ProcessAnswer]) -> HttpReply:
    """The answer of the process that has what was asked for; else the one that says most about why not."""
    if any(one.ok for one in answers):
        return json_reply({"done": True})
    there = [one for one in answers if one.status is not None]
    if not there:
        return told(HTTPStatus.SERVICE_UNAVAILABLE, "no process of the server answers")
    worst = next((one for one in there if one.status != HTTPStatus.NOT_FOUND), there[0])
    return told(HTTPStatus(worst.status or HTTPStatus.SERVICE_UNAVAILABLE), str(worst.value.get("error", "no explanation")))
