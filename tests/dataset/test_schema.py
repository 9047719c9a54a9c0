from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from luthier.music.dataset import styles
from luthier.music.dataset.json_schemas import json_schemas
from luthier.music.dataset.records import Checkpoint, Dataset, Track

FOLDER = Path(__file__).parents[2] / "config" / "schemas"
SCHEMAS = json_schemas()
HASH = "0" * 64

TRACK = {
    "track_id": "rain",
    "filename": "rain.mp3",
    "audio_path": "audio/rain.mp3",
    "prompt_path": "audio/rain_prompt.txt",
    "lyrics_path": "audio/rain_lyrics.txt",
    "duration": 92.5,
    "sample_rate": 48000,
    "quality_score": 87,
    "style_ids": ["CORE-01"],
    "source_id": "own",
    "split": "train",
}
CHECKPOINT = {
    "checkpoint_id": "epoch=0-step=5000_lora",
    "step": 5000,
    "path": "checkpoints/epoch=0-step=5000_lora",
    "timestamp": "2026-01-31T10:00:00Z",
    "is_valid": True,
    "config_hash": HASH,
    "dataset_hash": HASH,
}
DATASET = {
    "dataset_id": "abc",
    "created": "2026-01-31T10:00:00Z",
    "track_count": 10,
    "train_count": 9,
    "validation_count": 1,
    "total_duration": 0.3,
    "style_distribution": {"core": 10},
    "hash": HASH,
}


def test_the_files_are_those_that_the_models_make():
    found = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
    assert found == SCHEMAS, "run  python docs/make_schemas.py"
    assert set(found) == {"track", "style_preset", "source_record", "checkpoint", "dataset"}


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_they_are_schemas(name):
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


def test_every_preset_of_luthier_fits_its_schema():
    validator = jsonschema.Draft202012Validator(SCHEMAS["style_preset"])
    presets = json.loads(styles.BUILT_IN.read_text())["presets"]
    assert len(presets) > 38  # with the parents
    for preset in presets:
        validator.validate(preset)
    for wrong in ({"tempo_range": [10, 80]}, {"base_tags": ["a,b"]}, {"mood": []}):
        assert not validator.is_valid(presets[0] | wrong)


@pytest.mark.parametrize(
    ("name", "model", "row", "wrong"),
    [
        ("track", Track, TRACK, {"duration": 20}),
        ("track", Track, TRACK, {"style_ids": []}),
        ("track", Track, TRACK, {"split": "test"}),
        ("track", Track, TRACK, {"sample_rate": 44100}),
        ("checkpoint", Checkpoint, CHECKPOINT, {"step": -1}),
        ("checkpoint", Checkpoint, CHECKPOINT, {"config_hash": "x"}),
        ("dataset", Dataset, DATASET, {"style_distribution": {"jazz": 1}}),
        ("dataset", Dataset, DATASET, {"track_count": 0}),
    ],
)
def test_schema_and_model_refuse_the_same(name, model, row, wrong):
    validator = jsonschema.Draft202012Validator(SCHEMAS[name])
    validator.validate(row)
    model.model_validate(row)
    assert not validator.is_valid(row | wrong)
    with pytest.raises(ValueError):
        model.model_validate(row | wrong)
    for field in row:
        lacking = {n: v for n, v in row.items() if n != field}
        assert not validator.is_valid(lacking), field
