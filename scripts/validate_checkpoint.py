"""A checkpoint against real tracks: FAD, CLAP, style coverage; `compare` ranks several."""

from luthier.cli.scripts.validate_checkpoint import main

raise SystemExit(main())
