"""`python -m benchmarks.latency`."""

import sys

from benchmarks.harness.run import main
from benchmarks.latency.benchmark import BENCHMARK

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
