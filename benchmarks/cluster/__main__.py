"""`python -m benchmarks.cluster`."""

import sys

from benchmarks.cluster.benchmark import BENCHMARK
from benchmarks.harness.run import main

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
