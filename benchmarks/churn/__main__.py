"""`python -m benchmarks.churn`."""

import sys

from benchmarks.churn.benchmark import BENCHMARK
from benchmarks.harness.run import main

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
