"""`python -m benchmarks.browser`."""

import sys

from benchmarks.browser.benchmark import BENCHMARK
from benchmarks.harness.run import main

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
