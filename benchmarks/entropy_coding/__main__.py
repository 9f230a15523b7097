"""`python -m benchmarks.entropy_coding`."""

import sys

from benchmarks.entropy_coding.benchmark import BENCHMARK
from benchmarks.harness.run import main

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
