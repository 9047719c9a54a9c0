"""`luthier trace`: where a result came from, back to the recordings and their licences."""

from __future__ import annotations

import argparse
from pathlib import Path

from luthier.cli import common
from luthier.provenance import Traced, trace

HELP = "show where a result came from: model, checkpoint, data set, tracks, licences"

_STATES = {
    "changed": "CHANGED since it was used",
    "missing": "MISSING",
    "shown": "see above",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `luthier trace`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a file or folder luthier made")
    parser.add_argument(
        "--no-verify", action="store_true", help="do not compare sources with their sha256"
    )


def run(args: argparse.Namespace) -> int:
    """Print the tree; 0 also when a source is missing or has changed: the tree says so."""
    rows = trace(args.file, verify=not args.no_verify)
    value = {
        "file": str(args.file),
        "rows": [
            {"depth": r.depth, "path": str(r.path), "state": r.state, "record": r.record}
            for r in rows
        ],
    }
    common.emit(args, value, tree_text(rows, verbose=args.verbose))
    return 0


def tree_text(rows: list[Traced], *, verbose: bool = False) -> str:
    """The rows as an indented tree with box lines."""
    lines = []
    for index, row in enumerate(rows):
        lines.append(f"{_branch(rows, index)}{_label(row)}")
        if verbose and row.record.get("command"):
            command = " ".join(str(part) for part in row.record["command"])
            lines.append(f"{'    ' * row.depth}      $ {command}")
    if not rows[0].record:
        lines.append("no record lies beside it: luthier did not make it, or its run.json is gone")
    licences = sorted({name for row in rows for name in row.record.get("licences", [])})
    if licences:
        lines.append(f"licences: {', '.join(licences)}")
    return "\n".join(lines)


def _branch(rows: list[Traced], index: int) -> str:
    """The box lines in front of row `index`: at each depth, whether a sibling follows below."""
    depth = rows[index].depth
    if depth == 0:
        return ""
    marks = []
    for level in range(1, depth + 1):
        below = (r.depth for r in rows[index + 1 :] if r.depth <= level)
        more = next(below, 0) == level
        if level == depth:
            marks.append("├── " if more else "└── ")
        else:
            marks.append("│   " if more else "    ")
    return "".join(marks)


def _label(row: Traced) -> str:
    record = row.record
    name = str(row.path) if row.depth == 0 else _short(row.path)
    facts = []
    if record:
        facts.append(str(record.get("stage", "?")))
        facts.append(str(record.get("created", ""))[:16].replace("T", " "))
        seeds = record.get("seeds", {})
        facts += [f"{key} seed {value}" for key, value in seeds.items()]
        facts += [", ".join(record.get("licences", []))]
    elif row.state != "shown" and row.depth:
        facts.append("source")
    facts.append(_STATES.get(row.state, ""))
    told = " · ".join(fact for fact in facts if fact)
    return f"{name}   {told}".rstrip()


def _short(path: Path) -> str:
    # The last two parts say which file it is; the whole path is in --json.
    return "/".join(path.parts[-2:])
