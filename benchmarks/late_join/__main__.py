"""`python -m benchmarks.late_join`."""

import sys

from benchmarks.harness.run import main
from benchmarks.late_join.benchmark import BENCHMARK

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
