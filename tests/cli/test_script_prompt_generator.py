from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from luthier.audio.encode import write_audio
from luthier.cli.scripts.lofi_prompt_generator import main

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "lofi_prompt_generator.py"
PRESETS = ROOT / "config" / "style_presets.json"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rows = []
    for name in ("rain", "sun"):
        path = tmp_path / "audio" / f"{name}.wav"
        write_audio(path, np.zeros((2, 800), np.float32), 8000)
        row = {"status": "success", "source": str(path), "output_path": str(path)}
        rows.append(row | {"duration": 60.0, "bpm": 80.0, "key": "C major"})
    (tmp_path / "audio" / "curation.json").write_text(json.dumps({"results": rows}))
    (tmp_path / "map.json").write_text('{\n "rain": ["SEASON-06"],\n "sun": ["VOCAL-03"]\n}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOFI_CONFIG_DIR", raising=False)
    return tmp_path


def generate(*flags):
    return main(["generate", "--audio-dir", "audio", "--style-mapping", "map.json", *flags])


def test_the_contract_s_command_line(folder):
    words = ["generate", "--audio-dir", "audio", "--style-mapping", "map.json"]
    words += ["--presets", str(PRESETS), "--output-dir", "out", "--include-lyrics", "--json"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    assert result["written"] is True
    assert result["needs_review"] == ["sun"]
    prompt = (folder / "out" / "rain_prompt.txt").read_text()
    assert prompt == result["prompts"]["rain"]["caption"] + "\n"
    assert "80 bpm, C major" in prompt
    assert (folder / "out" / "rain_lyrics.txt").read_text() == "[Instrumental]\n"
    assert (folder / "out" / "sun_lyrics.txt").read_text().startswith("[Intro]\n")
    assert sorted(p.name for p in (folder / "audio").iterdir()) == [
        "curation.json",
        "rain.wav",
        "sun.wav",
    ]


def test_beside_the_audio_and_without_lyrics_by_default(folder, capsys):
    assert generate() == 0
    said = capsys.readouterr().out
    assert "1 tracks should be looked at" in said
    assert (folder / "audio" / "sun_lyrics.txt").read_text() == "[Instrumental]\n"
    (folder / "audio" / "sun_prompt.txt").write_text("mine\n")
    assert generate() == 0
    assert "sun: prompt" in capsys.readouterr().out
    assert (folder / "audio" / "sun_prompt.txt").read_text() == "mine\n"
    assert generate("--overwrite", "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert (folder / "audio" / "sun_prompt.txt").read_text() != "mine\n"


def test_a_dry_run(folder, capsys):
    assert generate("--dry-run", "--output-dir", "out") == 0
    assert "Nothing was written." in capsys.readouterr().out
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ('{\n "rain": ["SEASON-6"]}', "map.json:2:11: there is no style 'SEASON-6'; the nearest"),
        ('{\n "rains": ["CORE-01"]}', "map.json:2:2: the track 'rains' is not in the audio folder"),
        ("{", "map.json:1:2: this is not valid JSON"),
    ],
)
def test_a_wrong_mapping_is_one_sentence(folder, capsys, mapping, message):
    (folder / "map.json").write_text(mapping)
    assert generate() == 1
    assert message in capsys.readouterr().err
    assert generate("--json") == 1
    assert message in json.loads(capsys.readouterr().out)["error"]
    assert not list((folder / "audio").glob("*.txt"))


@pytest.mark.parametrize(
    "words",
    [[], ["generate"], ["generate", "--audio-dir", "a"], ["interactive"], ["generate", "--nope"]],
)
def test_wrong_flags_exit_1(folder, capsys, words):
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 1
    assert "--help" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--help", "--version"])
@pytest.mark.parametrize("mode", [[], ["generate"], ["interactive"]])
def test_help_and_version(capsys, mode, flag):
    with pytest.raises(SystemExit) as exit_:
        main([*mode, flag])
    assert exit_.value.code == 0
    assert "lofi_prompt_generator.py" in capsys.readouterr().out


def test_the_configuration_folder(folder, monkeypatch, capsys):
    preset = {
        "style_id": "MINE-01",
        "name": "Mine",
        "category": "core",
        "base_tags": ["dark lofi"],
        "instruments": ["piano"],
        "production": ["tape hiss"],
        "mood_options": ["calm"],
        "tempo_range": [70, 90],
    }
    (folder / "map.json").write_text('{"rain": ["MINE-01"]}')
    assert generate("-q") == 1  # luthier's own presets have no such style
    (folder / "config").mkdir()
    (folder / "config" / "style_presets.json").write_text(json.dumps([preset]))
    (folder / "map.json").write_text('{"rain": ["MINE-01"], "sun": ["MINE-01"]}')
    assert generate("-q") == 0  # ./config is the contract's default
    monkeypatch.setenv("LOFI_CONFIG_DIR", str(ROOT / "config"))
    assert generate("-q") == 1
    assert "no style 'MINE-01'" in capsys.readouterr().err


def test_interactive_from_a_pipe(folder):
    done = subprocess.run(
        [sys.executable, SCRIPT, "interactive", "--audio-file", "audio/rain.wav", "--json"],
        input="style THEME-06\nsave\nquit\n",
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout)
    assert result["saved"] is True
    assert result["prompt"]["style_ids"] == ["THEME-06"]
    assert (folder / "audio" / "rain_prompt.txt").read_text() == result["prompt"]["caption"] + "\n"
