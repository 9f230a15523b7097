"""`python -m benchmarks.long_streams`."""

import sys

from benchmarks.harness.run import main
from benchmarks.long_streams.benchmark import BENCHMARK

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
