"""`python -m streamcodec.training` is `streamcodec train`."""

from streamcodec.training.cli import main

raise SystemExit(main())
