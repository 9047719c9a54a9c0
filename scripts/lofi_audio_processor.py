#!/usr/bin/env python3
from luthier.cli.scripts.lofi_audio_processor import main

if __name__ == "__main__":  # its worker processes import this file
    raise SystemExit(main())
