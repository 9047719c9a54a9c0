#!/usr/bin/env python3
from luthier.cli.scripts.convert_dataset import main

raise SystemExit(main())
