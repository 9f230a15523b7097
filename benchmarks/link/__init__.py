"""Networks on loopback that are slow, narrow, jittery or cut, for benchmarks and tests: a TCP proxy, or network namespaces with netem.

`python -m benchmarks.link` says what network namespaces would take on this machine.
"""

from benchmarks.link.conditions import Conditions, Direction, LinkState
from benchmarks.link.proxy import Link

__all__ = ["Conditions", "Direction", "Link", "LinkState"]
