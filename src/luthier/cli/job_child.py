"""`python -m luthier.cli.job_child FOLDER WORD...`: a luthier command that leaves word of itself.

A server starts its jobs with it. It may be gone when one begins or ends, so which process it is,
and how it ended, go into files.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from luthier.cli.main import main as luthier
from luthier.files import write_json
from luthier.server.jobs.process import EXIT_NAME, PROCESS_NAME, born_of


def main() -> int:
    """Run the command and note how it ended."""
    folder, words = Path(sys.argv[1]), sys.argv[2:]
    pid = os.getpid()
    write_json(folder / PROCESS_NAME, {"pid": pid, "born": born_of(pid)})
    try:
        code = luthier(words)
    except SystemExit as error:  # argparse refuses this way
        code = error.code if isinstance(error.code, int) else 2
    except KeyboardInterrupt:
        code = 130
    write_json(folder / EXIT_NAME, {"code": code})
    return code


if __name__ == "__main__":
    sys.exit(main())
