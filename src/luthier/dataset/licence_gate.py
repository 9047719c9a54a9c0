"""The licence gate: which tracks may train a model, and everything doubtful about their records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier.dataset.sources import SOURCES_NAME, SourceRecord, records_by_track, strictest
from luthier.errors import LicenceError
from luthier.spelling import nearest


@dataclass(frozen=True)
class Refusal:
    """A track that may not train, and why."""

    track_id: str
    reason: str
    source_id: str = ""


@dataclass(frozen=True)
class SourcesReport:
    """What `check_sources` found.

    Attributes:
        refused: tracks that may not train.
        problems: what has to be put right, a sentence each.
        notes: what is allowed and worth knowing, a sentence each.
    """

    refused: tuple[Refusal, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def refusals(track_ids: Iterable[str], sources: Sequence[SourceRecord]) -> list[Refusal]:
    """Every one of the tracks that may not train, by track id.

    Permission has to be stated: no record, none said, or unknown are all refused. Where several
    records name a track, all of them have to allow it.
    """
    records = records_by_track(sources)
    found = []
    for track_id in sorted(set(track_ids)):
        record = strictest(records.get(track_id, []))
        if record is None:
            found.append(Refusal(track_id, "no source record"))
        elif record.ai_training_allowed is None:
            reason = f"{record.source_id} does not say whether AI training is allowed"
            found.append(Refusal(track_id, reason, record.source_id))
        elif not record.ai_training_allowed:
            reason = f"{record.source_id} does not allow AI training"
            found.append(Refusal(track_id, reason, record.source_id))
    return found


def require_licences(track_ids: Iterable[str], sources: Sequence[SourceRecord]) -> list[str]:
    """The licences of the tracks, sorted; `LicenceError` listing every track that may not train."""
    wanted = set(track_ids)
    refused = refusals(wanted, sources)
    if refused:
        count = f"{len(refused)} tracks" if len(refused) > 1 else "1 track"
        raise LicenceError(
            f"{count} may not be trained on, and nothing was written:\n"
            + "".join(f"  {r.track_id} ({r.reason})\n" for r in refused)
            + f'Add a record with "ai_training_allowed": true to {SOURCES_NAME} where the licence '
            "says so, or take the tracks out.",
            map(asdict, refused),
        )
    records = records_by_track(sources)
    return sorted({record.license_type for track in wanted for record in records[track]})


def check_sources(
    sources: Sequence[SourceRecord], folder: Path, track_ids: Iterable[str] | None = None
) -> SourcesReport:
    """Look for tracks without permission, unknown and doubly claimed tracks, and lost evidence.

    Args:
        sources: valid records.
        folder: where `sources.json` lies; evidence files are looked for from there.
        track_ids: the tracks there are; None checks the records alone.
    """
    problems, notes = [], []
    records = records_by_track(sources)
    for track_id, owners in records.items():
        if len(owners) > 1:
            names = ", ".join(owner.source_id for owner in owners)
            problems.append(f"{track_id} is claimed by {names}: one source has to own it.")
    known = None if track_ids is None else set(track_ids)
    if known:
        for track_id in sorted(set(records) - known):
            problems.append(
                f"{records[track_id][0].source_id} names the track {track_id!r}, which is not "
                f"there; the nearest is {nearest(track_id, known)!r}."
            )
    for source in sources:
        problems += _evidence_problems(source, folder)
        notes += _notes(source)
    return SourcesReport(
        tuple(refusals(records if known is None else known, sources)), tuple(problems), tuple(notes)
    )


def _evidence_problems(source: SourceRecord, folder: Path) -> list[str]:
    evidence = source.evidence or ""
    # A file is recognised by its suffix; other words ("mail of 3 May") are taken as they are.
    looks_like_file = "://" not in evidence and bool(Path(evidence).suffix) and " " not in evidence
    if looks_like_file and not (folder / evidence).is_file():
        return [f"{source.source_id}: the evidence {evidence} is not in {folder}."]
    return []


def _notes(source: SourceRecord) -> list[str]:
    notes = []
    if source.ai_training_allowed and not source.evidence:
        notes.append("allows AI training without evidence: add a link or a file.")
    if source.ai_training_allowed and not source.verified_by:
        notes.append("nobody is named who read the licence (verified_by).")
    if "NC" in source.flags:
        notes.append("is non-commercial (NC): so is what is trained on it.")
    if "ND" in source.flags and source.ai_training_allowed:
        notes.append("forbids derivatives (ND) yet allows AI training: have the evidence at hand.")
    if "SA" in source.flags:
        notes.append("is share-alike (SA): derived data has to carry the same licence.")
    if "BY" in source.flags and not source.attribution:
        notes.append(f"asks for attribution (BY): the card will say {source.attribution_line!r}.")
    return [f"{source.source_id}: {note}" for note in notes]
