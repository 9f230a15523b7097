"""`python -m benchmarks.cluster_growth`."""

import sys

from benchmarks.cluster_growth.benchmark import BENCHMARK
from benchmarks.harness.run import main

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
