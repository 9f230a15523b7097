"""`python -m benchmarks.soak`."""

import sys

from benchmarks.soak.benchmark import BENCHMARK
from benchmarks.harness.run import main

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
