"""`python -m benchmarks.link`: says whether network namespaces with netem can be had here."""

import sys

from benchmarks.link.netns import missing

if __name__ == "__main__":
    why = missing()
    print("network namespaces with netem can be had here" if why is None else f"no network namespaces with netem here: {why}")
    sys.exit(why is not None)
