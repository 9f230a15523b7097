"""`python -m benchmarks.dtx`."""

import sys

from benchmarks.dtx.benchmark import BENCHMARK
from benchmarks.harness.run import main

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
