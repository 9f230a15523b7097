"""`python -m benchmarks.batches`: prints a table."""

import sys

from benchmarks.batches.compare import main

if __name__ == "__main__":
    sys.exit(main())
