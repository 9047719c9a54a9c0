"""The command-line contract's scripts: the exact names, flags and exit codes, over the package."""
