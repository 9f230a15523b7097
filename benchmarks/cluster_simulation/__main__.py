"""`python -m benchmarks.cluster_simulation`."""

import sys

from benchmarks.cluster_simulation.benchmark import BENCHMARK
from benchmarks.harness.run import main

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
