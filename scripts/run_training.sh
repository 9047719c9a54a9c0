#!/usr/bin/env bash
# Fine-tune ACE-Step on a data set. --help shows the flags.
# Signals go to Python itself (exec), so that Ctrl-C and SIGTERM save a checkpoint.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES-0}"
python="$root/.venv/bin/python"
if [[ ! -x "$python" ]]; then
  python="$(command -v python3 || command -v python)" || {
    echo "run_training.sh: no Python found: install luthier into $root/.venv" >&2
    exit 1
  }
fi
export LUTHIER_CALLED_AS="$0"  # for the command that goes on after a stop
exec "$python" -m luthier.cli.scripts.run_training "$@"
