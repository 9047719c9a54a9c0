"""Prompts for a folder of audio, or for one file in a dialogue. --help says more."""

from luthier.cli.scripts.lofi_prompt_generator import main

raise SystemExit(main())
