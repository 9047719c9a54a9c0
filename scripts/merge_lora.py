"""A base model and a LoRA checkpoint → one model that needs no adapter."""

from luthier.cli.scripts.merge_lora import main

raise SystemExit(main())
