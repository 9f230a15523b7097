"""What each of several processes of one server is allowed: its share of what the server allows in all."""

from __future__ import annotations

from dataclasses import replace

from streamcodec.errors import InputError
from streamcodec.server.limits import Limits

__all__ = ["shared_limits"]

_COUNTED = ("max_publishers", "max_listeners", "max_waiting_listeners", "max_other_connections", "max_echo_tests")


def shared_limits(limits: Limits, processes: int) -> list[Limits]:
    """The limits of each process: what counts clients of the whole server is shared out, so that the sums stay what they were.

    What counts clients of one address stays as it is, in each process: nobody knows to which process an address will come. So do rates and
    times. Raises `InputError` where there are fewer places than processes.
    """
    shares: list[dict[str, int]] = [{} for _ in range(processes)]
    for name in (*_COUNTED, "capacity"):
        total = getattr(limits, name)
        if not isinstance(total, int):
            continue  # a capacity that each process measures
        if total < processes:
            raise InputError(f"{name} is {total}, expected {processes} or more: each of the {processes} processes has its share")
        for index, share in enumerate(shares):
            share[name] = total // processes + (index < total % processes)
    return [replace(limits, **share) for share in shares]  # type: ignore[arg-type]
