#!/usr/bin/env python3
"""A merged model → ONNX graphs in a precision tier."""

from luthier.cli.scripts.export_onnx import main

raise SystemExit(main())
