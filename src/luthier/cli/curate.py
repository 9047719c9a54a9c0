"""`luthier curate`: a folder of recordings → a folder of training-ready audio."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luthier.dataset.curate import CurateReport, CurateSettings

HELP = "recordings → training-ready audio"
SHEET_NAME = "contact_sheet.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags; the defaults of the settings are those of `CurateSettings`."""
    parser.add_argument(
        "input_dir", type=Path, metavar="DIR", help="recordings, sub-folders included"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    add_settings(parser)
    parser.add_argument(
        "--report", action="store_true", help=f"write {SHEET_NAME}: outlines, players, verdicts"
    )
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="what spreads the work (local)"
    )
    parser.add_argument("--address", help="of a Ray cluster; without it Ray starts here")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The flags that `luthier curate` and the contract's script share."""
    parser.add_argument("--sample-rate", type=int, metavar="HZ", help="of the output (48000)")
    parser.add_argument("--target-format", choices=("mp3", "flac", "wav", "ogg"), help="(mp3)")
    parser.add_argument("--bitrate", type=int, metavar="KBPS", help="of mp3 and ogg (320)")
    parser.add_argument(
        "--min-duration", type=float, metavar="S", help="shorter is skipped, seconds (30)"
    )
    parser.add_argument(
        "--max-duration", type=float, metavar="S", help="longer is cut, seconds (240)"
    )
    parser.add_argument(
        "--normalize-peak", type=float, metavar="DB", help="peak, dB full scale (-1)"
    )
    parser.add_argument("--workers", type=int, default=4, help="processes (4)")


def run(args: argparse.Namespace) -> int:
    """Curate; 0 when every file was processed or skipped, 2 when some failed."""
    return curate_folder(args, args.input_dir, args.out)


def after_stop(args: argparse.Namespace) -> str:
    """How to go on: the same command does what is left."""
    from luthier.cli.common import command_of

    out = getattr(args, "out", None) or args.output_dir
    return f"what is finished stays in {out}; do the rest with  {command_of(args)}"


def curate_folder(args: argparse.Namespace, input_dir: Path, output_dir: Path) -> int:
    """Curate a folder as the flags say, print the result, return the exit code.

    The contract's script has no flags for a contact sheet and for Ray: absent ones are off.
    """
    from luthier.cli import common
    from luthier.dataset.curate import curate
    from luthier.report.contact_sheet import write_contact_sheet
    from luthier.report.document import check_page

    settings = settings_from(args)
    if args.dry_run:
        return _show_plan(args, input_dir, output_dir, settings)
    if getattr(args, "report", False):
        check_page(output_dir / SHEET_NAME)
    report = curate(
        input_dir,
        output_dir,
        settings,
        common.display(args),
        workers=args.workers,
        engine=getattr(args, "engine", "local"),
        address=getattr(args, "address", None),
    )
    text = _text(report, output_dir, verbose=args.verbose)
    if getattr(args, "report", False):
        sheet = output_dir / SHEET_NAME
        write_contact_sheet(sheet, report.to_json(outlines=True), input_dir.resolve().name)
        text += f"\nto look at and listen to: {sheet}"
    common.emit(args, report.to_json(), text)
    return 2 if report.count("failed") else 0


def _show_plan(
    args: argparse.Namespace, input_dir: Path, output_dir: Path, settings: CurateSettings
) -> int:
    from luthier.cli import common
    from luthier.dataset.curate import plan, printable

    jobs = plan(input_dir, output_dir, settings)
    rows = [{"source": printable(str(job.source)), "output_path": str(job.output)} for job in jobs]
    text = "\n".join(f"{row['source']} -> {row['output_path']}" for row in rows)
    common.emit(args, {"planned": len(rows), "results": rows}, text)
    return 0


def settings_from(args: argparse.Namespace) -> CurateSettings:
    """The flags that were given, over the defaults; `RequestError` for what is out of range."""
    from pydantic import ValidationError

    from luthier.dataset.curate import CurateSettings
    from luthier.errors import RequestError

    given = {name: getattr(args, name, None) for name in CurateSettings.model_fields}
    try:
        return CurateSettings(**{n: v for n, v in given.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + "-".join(str(first["loc"][0]).split("_")) if first["loc"] else "the flags"
        reason = first["msg"].removeprefix("Value error, ")
        raise RequestError(f"{flag}: {reason}, not {first['input']}.") from error


def _text(report: CurateReport, out: Path, *, verbose: bool = False) -> str:
    """What people are told: every file that is not ready and why, the duplicates, the counts."""
    lines = []
    for result in report.results:
        if result.status != "success":
            lines.append(f"{result.status:<8} {result.source}: {result.reason}")
        elif verbose:
            notes = "".join(f"; {note}" for note in result.notes)
            lines.append(f"ready    {result.source}: {result.quality_score} of 100{notes}")
    for group in report.duplicates:
        others = ", ".join(f"{name} ({alike:.0%} alike)" for name, alike in group.others)
        lines.append(f"the same recording: {group.kept} and {others}")
    for moved in report.rejected:
        lines.append(f"rejected {moved.output_path} -> {moved.moved_to}: {moved.reason}")
    for moved in report.restored:
        lines.append(f"restored {moved.output_path} -> {moved.moved_to}: {moved.reason}")
    for path in report.foreign:
        lines.append(f"kept     {path}: it is not what luthier wrote there")
    unchanged = sum(result.unchanged for result in report.results)
    again = f" ({unchanged} unchanged)" if unchanged else ""
    lines.append(
        f"{report.count('success')} processed{again}, {report.count('skipped')} skipped, "
        f"{report.count('failed')} failed -> {out}"
    )
    return "\n".join(lines)
