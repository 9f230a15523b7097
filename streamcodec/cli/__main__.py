"""`python -m streamcodec.cli` is `streamcodec`."""

from streamcodec.cli.app import main

raise SystemExit(main())
