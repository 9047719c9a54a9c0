from __future__ import annotations

import datasets
import pytest
from huggingface_hub import DatasetCard

from luthier.files import read_json, write_json
from luthier.music.dataset.build import BuildSettings, build_dataset
from prepared import STYLES, prepare, source, write_track


@pytest.fixture
def data(tmp_path):
    return prepare(tmp_path)


def card_of(data, *sources, **options):
    if sources:
        write_json(data.parent / "meta" / "sources.json", list(sources))
    out = data.parent / "set"
    summary = build_dataset(data, data.parent / "meta", out, BuildSettings(**options))
    return summary, DatasetCard.load(out / "README.md")


def halves(**changes):
    names = list(STYLES)
    return (
        source(track_ids=names[:3]),
        source(source_id="cc", track_ids=names[3:], **changes),
    )


def test_the_head_is_what_the_hub_reads(data):
    _, card = card_of(data)
    head = card.data.to_dict()
    assert head["license"] == "cc0-1.0"
    assert head["task_categories"] == ["text-to-audio"]
    assert head["size_categories"] == ["n<1K"]
    assert "music" in head["tags"]
    assert "language" not in head
    files = head["configs"][0]["data_files"]
    assert [row["split"] for row in files] == ["train", "validation"]


def test_the_hub_loader_opens_the_folder_by_its_card(data, tmp_path):
    summary, _ = card_of(data, repeat_count=3)
    found = datasets.load_dataset(summary.output_path, cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in found.items()} == {"train": 4, "validation": 1}
    assert found["train"][0]["tags"][0] == "lofi hip hop"


@pytest.mark.parametrize(
    ("licence", "head"),
    [
        ("CC-BY-4.0", {"license": ["cc-by-4.0", "cc0-1.0"]}),
        ('Pond 5: "site" terms', {"license": "other", "license_name": "cc0-1.0-pond-5-site-terms"}),
    ],
)
def test_several_licences(data, licence, head):
    _, card = card_of(data, *halves(license_type=licence))
    assert head.items() <= card.data.to_dict().items()
    assert licence in card.content


def test_licences_attribution_and_evidence(data):
    sources = halves(
        license_type="CC-BY-SA-4.0",
        source_type="creative_commons",
        provider="Ann | Bob\n# no heading",
        evidence="https://example.org/licence",
    )
    _, card = card_of(data, *sources)
    assert "| own | commissioned | a \\| b | CC0-1.0 |  | 3 | 2025-01-01 |  |" in card.content
    assert "| BY SA | 2 | 2025-01-01 | https://example.org/licence |" in card.content
    assert "- Ann | Bob # no heading, CC-BY-SA-4.0" in card.content
    assert "\n# no heading" not in card.content
    stated = halves(license_type="CC-BY-4.0", attribution="Tune by Ann (CC BY 4.0)")
    _, card = card_of(data, *stated)
    assert "- Tune by Ann (CC BY 4.0)" in card.content


def test_sources_of_other_tracks_are_left_out(data):
    _, card = card_of(data, source(), source(source_id="far", track_ids=["elsewhere"]))
    assert "far" not in card.content
    assert "### Attribution" not in card.content


def test_balance_measures_and_figures(data):
    write_track(data, "t4", 4, keyscale=None, bpm=None, duration=90, instrumental=False)
    summary, card = card_of(data)
    text = card.content
    assert "| CORE-01 | Classic Lofi Hip Hop | core | 3 |" in text
    assert "| INST-01 | Piano Lofi | instrumental | 2 |" in text
    assert "| C major | 4 |" in text
    assert "| not known | 1 |" in text
    assert "| 80–89 bpm | 4 |" in text
    assert "| length, s | 30 | 30 | 90 |" in text
    assert "4 tracks are instrumental, 1 have words." in text
    assert "800 training samples and 1 validation samples" in text
    assert summary.dataset_hash in text
    assert card.data.to_dict()["language"] == ["en"]


def test_warnings_stand_in_the_card_and_the_manifest(data):
    write_track(data, "t2", 2, needs_review=True)
    summary, card = card_of(data)
    assert f"- {summary.warnings[0]}" in card.content
    manifest = read_json(data.parent / "set" / "dataset_manifest.json")
    assert manifest["warnings"] == list(summary.warnings)
