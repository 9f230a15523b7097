"""`python -m benchmarks.capacity`."""

import sys

from benchmarks.capacity.benchmark import BENCHMARK
from benchmarks.harness.run import main

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
