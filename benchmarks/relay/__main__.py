"""`python -m benchmarks.relay`."""

import sys

from benchmarks.harness.run import main
from benchmarks.relay.benchmark import BENCHMARK

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
