"""The data set's card: a README.md with the YAML head that Hugging Face reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luthier.dataset.sources import SourceRecord
from luthier.files import write_text


def write_card(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    sources: Sequence[SourceRecord],
    summary: Mapping[str, Any],
) -> None:
    """Write licences, attributions, balance and sizes of a data set to `path`."""
    licences = sorted({source.license_type for source in sources})
    styles = Counter(style for row in rows for style in row["style_ids"])
    tracks = Counter(row["source_id"] for row in rows)
    lines = [
        "---",
        "license: other",
        f"license_name: {_quoted(', '.join(licences))}",
        "task_categories:",
        "- text-to-audio",
        "tags:",
        "- music",
        "---",
        "",
        "# Music data set",
        "",
        f"{summary['unique_tracks']} tracks, {summary['total_duration_hours'] * 60:.1f} minutes; "
        f"{summary['train_samples']} training samples in a pass (tracks are repeated), "
        f"{summary['validation_samples']} validation tracks. Hash `{summary['dataset_hash']}`.",
        "",
        "Audio is referred to by path, not contained. Built with luthier.",
        "",
        "## Sources",
        "",
        "| source | provider | licence | tracks | AI training | attribution |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for source in sources:
        cells = (
            source.source_id,
            source.provider,
            source.license_type,
            str(tracks[source.source_id]),
            "allowed",
            source.attribution or "",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "## Styles", "", "| style | tracks |", "| --- | --- |"]
    lines += [f"| {style} | {count} |" for style, count in sorted(styles.items())]
    write_text(path, "\n".join(lines) + "\n")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
