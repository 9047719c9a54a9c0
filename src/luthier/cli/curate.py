"""`luthier curate`: a folder of recordings → a folder of training-ready audio."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luthier.dataset.curate import CurateReport, CurateSettings

HELP = "recordings → training-ready audio"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags; their defaults are those of `CurateSettings`."""
    parser.add_argument(
        "input_dir", type=Path, metavar="DIR", help="recordings, sub-folders included"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    parser.add_argument("--sample-rate", type=int, help="Hz of the output (48000)")
    parser.add_argument("--target-format", choices=("mp3", "flac", "wav", "ogg"), help="(mp3)")
    parser.add_argument("--bitrate", type=int, help="kbit/s of mp3 and ogg (320)")
    parser.add_argument("--min-duration", type=float, help="shorter is skipped, seconds (30)")
    parser.add_argument("--max-duration", type=float, help="longer is cut, seconds (240)")
    parser.add_argument("--normalize-peak", type=float, help="peak, dB full scale (-1)")
    parser.add_argument("--workers", type=int, default=4, help="processes (4)")


def run(args: argparse.Namespace) -> int:
    """Curate; 0 when every file was processed or skipped, 2 when some failed."""
    from luthier.cli import common
    from luthier.dataset.curate import curate, plan

    settings = settings_from(args)
    if args.dry_run:
        jobs = plan(args.input_dir, args.out, settings)
        rows = [{"source": str(job.source), "output_path": str(job.output)} for job in jobs]
        text = "\n".join(f"{row['source']} -> {row['output_path']}" for row in rows)
        common.emit(args, {"planned": len(rows), "results": rows}, text)
        return 0
    report = curate(args.input_dir, args.out, settings, common.display(args), workers=args.workers)
    common.emit(args, report.to_json(), _text(report, args.out))
    return 2 if report.count("failed") else 0


def settings_from(args: argparse.Namespace) -> CurateSettings:
    """The flags that were given, over the defaults; `RequestError` for what is out of range."""
    from pydantic import ValidationError

    from luthier.dataset.curate import CurateSettings
    from luthier.errors import RequestError

    given = {name: getattr(args, name) for name in CurateSettings.model_fields}
    try:
        return CurateSettings(**{n: v for n, v in given.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + "-".join(str(first["loc"][0]).split("_")) if first["loc"] else "the flags"
        reason = first["msg"].removeprefix("Value error, ")
        raise RequestError(f"{flag}: {reason}, not {first['input']}.") from error


def _text(report: CurateReport, out: Path) -> str:
    lines = [
        f"{result.status:<8} {result.source}: {result.reason}"
        for result in report.results
        if result.status != "success"
    ]
    unchanged = sum(result.unchanged for result in report.results)
    again = f" ({unchanged} unchanged)" if unchanged else ""
    lines.append(
        f"{report.count('success')} processed{again}, {report.count('skipped')} skipped, "
        f"{report.count('failed')} failed -> {out}"
    )
    return "\n".join(lines)
