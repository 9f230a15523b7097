"""`python -m benchmarks.heldout`."""

from benchmarks.heldout.clips import main

if __name__ == "__main__":
    main()
