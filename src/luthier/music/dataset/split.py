"""Which tracks a data set holds out: by track, stratified by style, before any repetition."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

Row = dict[str, Any]


def split_tracks(
    rows: Sequence[Row],
    share: float,
    seed: int,
    category_of: Callable[[str], str] = lambda style_id: style_id,
) -> tuple[list[Row], list[Row]]:
    """(training, validation), the same for any order of `rows` and any place of their files.

    Tracks are lined up by category and style, shuffled by hash within one, and validation takes
    every k-th: so each category and style gives its share. At least one track is held out whenever
    there are two to choose from and a share. Tracks with the same audio stay on one side.

    Args:
        rows: with `keys`, `style_ids` and (where it is known) `sha256` of the audio.
        share: of the tracks that is held out, 0..0.5.
        seed: another seed holds out other tracks.
        category_of: the category of a style id.
    """

    def place(row: Row) -> tuple[str, str, str]:
        style = row["style_ids"][0]
        drawn = hashlib.sha256(f"{seed}/{row['keys']}".encode()).hexdigest()
        return category_of(style), style, drawn

    recordings: dict[str, list[Row]] = {}
    for row in sorted(rows, key=itemgetter("keys")):
        recordings.setdefault(row.get("sha256") or row["keys"], []).append(row)
    line = sorted(recordings.values(), key=lambda same: place(same[0]))
    count = round(share * len(line))
    if share > 0 and len(line) >= 2:
        count = min(max(1, count), len(line) - 1)
    chosen = {int((i + 0.5) * len(line) / count) for i in range(count)}
    train = [row for i, same in enumerate(line) if i not in chosen for row in same]
    validation = [row for i, same in enumerate(line) if i in chosen for row in same]
    return sorted(train, key=itemgetter("keys")), sorted(validation, key=itemgetter("keys"))
