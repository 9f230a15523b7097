"""`python -m streamcodec.cli` is `streamcodec`."""

from streamcodec.cli import main

raise SystemExit(main())
