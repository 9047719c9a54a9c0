"""`python -m luthier` is the `luthier` command."""

from __future__ import annotations

import sys

from luthier.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
