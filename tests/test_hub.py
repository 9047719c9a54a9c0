"""Models of Hugging Face's hub by name, from a hub on this machine: every verb, in processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier.files import read_json, write_text
from mock_hub import MockHub, Repository
from tiny_ace import parts, write_diffusers, write_original

TURBO, BASE = "ACE-Step/acestep-v15-turbo", "ACE-Step/acestep-v15-base"
MAIN = "ACE-Step/Ace-Step1.5"
PLAY = ("--duration", "1", "--steps", "1", "--seed", "1")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repositories as they are published: with code and pickles that nobody may fetch."""
    root = tmp_path_factory.mktemp("published")
    turbo, base = parts(turbo=True), parts(turbo=False)
    write_original(root / "main", turbo)
    base_folder = write_original(root / "work", base)
    shutil.copytree(base_folder, root / "base")
    write_diffusers(root / "turbo-diffusers", turbo)
    lm = root / "main" / "acestep-5Hz-lm-1.7B"
    lm.mkdir()
    (lm / "model.safetensors").write_bytes(b"x" * 1000)
    (lm / "config.json").write_text("{}")
    for folder in ("main", "main/acestep-v15-turbo", "base", "turbo-diffusers"):
        (root / folder / "pytorch_model.bin").write_bytes(b"never")
        (root / folder / "other.pt").write_bytes(b"never")
        (root / folder / "modeling.py").write_text("raise RuntimeError\n")
    write_text(root / "main" / "README.md", "---\nlicense: mit\n---\n# ACE-Step\n")
    write_text(root / "base" / "README.md", "# no metadata\n")
    return root


@pytest.fixture
def hub(published: Path) -> Iterator[MockHub]:
    made = MockHub()
    made.repositories = {
        MAIN: Repository(published / "main", {"license": "mit"}),
        BASE: Repository(published / "base"),
        "ACE-Step/turbo-diffusers": Repository(
            published / "turbo-diffusers",
            {"license": "other", "license_name": "house-rules"},
        ),
    }
    with made.running():
        yield made


class Machine:
    """A machine with a home of its own that knows one hub."""

    def __init__(self, home: Path, hub: MockHub) -> None:
        self.home, self.hub = home, hub
        self.cache = home / "cache"

    def environment(self, **more: str) -> dict[str, str]:
        own = {
            "HF_HOME": str(self.home / "hf"),
            "HF_ENDPOINT": self.hub.address,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "LUTHIER_CACHE_DIR": str(self.cache),
            "OMP_NUM_THREADS": "1",
        }
        return os.environ | own | more

    def luthier(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "luthier", *words]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=self.environment(**more),
            cwd=self.home,
            check=False,
            timeout=120,
        )

    def resolve(self, call: str, *before: str, **more: str) -> subprocess.CompletedProcess[str]:
        """`luthier.models.CALL` in a process; prints the result or the error's sentence."""
        code = [
            "import sys",
            "from luthier.models import *",
            "from luthier import models",
            "from luthier.hub import Hub",
            "from luthier.errors import LuthierError",
            "from luthier.progress import Display",
            "hub = Hub(display=Display('plain'))",
            *before,
            f"try: print(models.{call})",
            "except LuthierError as error: sys.exit(f'{type(error).__name__}: {error}')",
        ]
        return subprocess.run(
            [sys.executable, "-c", "\n".join(code)],
            capture_output=True,
            text=True,
            env=self.environment(**more),
            cwd=self.home,
            check=False,
            timeout=120,
        )


@pytest.fixture
def machine(tmp_path: Path, hub: MockHub) -> Machine:
    return Machine(tmp_path, hub)


def folder_of(done: subprocess.CompletedProcess[str]) -> Path:
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip().splitlines()[-1])


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1]


# --- what is fetched, and where it lies -------------------------------------------------------


def test_a_folder_of_the_main_repository_by_its_name(machine: Machine, hub: MockHub) -> None:
    done = machine.resolve(f"torch_model('{TURBO}', hub)")
    folder = folder_of(done)
    assert folder.name == "acestep-v15-turbo"
    assert (folder.parent / "vae" / "config.json").is_file()
    assert (folder.parent / "Qwen3-Embedding-0.6B" / "tokenizer.json").is_file()
    assert (folder / "config.json").is_symlink(), "nothing is copied"
    names = hub.downloaded
    assert f"{MAIN}/acestep-v15-turbo/silence_latent.pt" in names
    assert not [n for n in names if n.endswith((".py", ".bin", "other.pt"))], names
    assert not [n for n in names if "5Hz-lm" in n], "nobody asked for the planner"
    assert done.stderr.count("licence: mit") == 1
    again = machine.resolve(f"torch_model('{TURBO}', hub)")
    assert folder_of(again) == folder
    assert "licence" not in again.stderr
    assert hub.downloaded == names
    run = read_json(folder / "run.json")
    assert run["licences"] == ["mit"]
    (row,) = run["config"]["repositories"]
    assert row["repository"] == MAIN
    assert row["commit"] == hub.repositories[MAIN].revisions["main"]


def test_a_separate_repository_gets_the_shared_parts_of_the_main_one(
    machine: Machine, hub: MockHub
) -> None:
    done = machine.resolve(f"torch_model('{BASE}', hub)")
    folder = folder_of(done)
    assert (folder.parent / "vae" / "config.json").is_file()
    assert f"{BASE}: licence: no licence stated" in done.stderr
    assert f"{MAIN}: licence: mit" in done.stderr
    assert not [n for n in hub.downloaded if n.startswith(f"{MAIN}/acestep")]
    commits = [hub.repositories[name].revisions["main"] for name in (BASE, MAIN)]
    told = machine.resolve(
        "torch_model.__name__",
        "from luthier.provenance import input_record; from pathlib import Path; import json",
        f"print(json.dumps(input_record(Path({str(folder)!r}))))",
    )
    record = json.loads(told.stdout.splitlines()[0])
    assert record["hub"] == f"{BASE}@{commits[0]}, {MAIN}@{commits[1]}"
    assert record["licence"] == "no licence stated, mit"


def test_diffusers_repositories_and_a_licence_with_a_name(machine: Machine) -> None:
    done = machine.resolve("torch_model('ACE-Step/turbo-diffusers', hub)")
    assert (folder_of(done) / "model_index.json").is_file()
    assert "licence: house-rules" in done.stderr


def test_a_download_that_was_killed_goes_on_where_it_was(machine: Machine, hub: MockHub) -> None:
    big = machine.home / "big"
    shutil.copytree(hub.repositories[BASE].folder, big)
    shard = next(big.glob("model-00001*"))
    shard.write_bytes(os.urandom(3_000_000))
    hub.repositories[BASE] = Repository(big)
    hub.slow_s = 0.1
    command = f"from luthier.models import *; torch_model({BASE!r})"
    process = subprocess.Popen([sys.executable, "-c", command], env=machine.environment())
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and hub.sent < 1_500_000:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not [p for p in machine.cache.rglob("*.safetensors")], "nothing looks finished"
    time.sleep(0.3)
    before, hub.slow_s = hub.sent, 0.0
    folders = [hub.repositories[name].folder for name in (BASE, MAIN)]
    total = sum(p.stat().st_size for f in folders for p in f.rglob("*") if p.is_file())
    folder = folder_of(machine.resolve(f"torch_model('{BASE}', hub)"))
    assert (folder / shard.name).read_bytes() == shard.read_bytes()
    assert hub.sent - before < total - 500_000, "what had come was fetched again"


def test_a_repository_whose_weights_are_pickles_is_refused(machine: Machine, hub: MockHub) -> None:
    old = machine.home / "old"
    old.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (old / name).write_text("{}")
    (old / "pytorch_model.bin").write_bytes(b"never")
    hub.repositories["some/old"] = Repository(old)
    said = refused(machine.resolve("torch_model('some/old', hub)"))
    assert "has its weights as pytorch_model.bin, which could run code" in said
    assert hub.downloaded == []


# --- names ------------------------------------------------------------------------------------


def test_a_folder_wins_and_a_dot_is_a_folder_always(machine: Machine, hub: MockHub) -> None:
    (machine.home / "ACE-Step").mkdir()
    (machine.home / BASE).mkdir()
    assert folder_of(machine.resolve(f"torch_model('{BASE}', hub)")) == Path(BASE)
    (machine.home / BASE).rmdir()
    assert folder_of(machine.resolve(f"torch_model('./{BASE}', hub)")) == Path(BASE)
    assert hub.asked == []
    done = machine.luthier("generate", "x", "--model", f"./{BASE}")
    assert "is not a model folder" in refused(done)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "parts_of_it"),
    [
        ("work/modle", ("there is no folder work/modle here", "no model work/modle on Hugging")),
        (f"{BASE}@v9", (f"{BASE} has no revision 'v9'",)),
        ("some/gated", ("is for those who have accepted its terms",)),
        ("some/empty", ("holds no model that luthier knows",)),
        ("some/lora", ("is an adapter, not a model",)),
    ],
)
def test_what_cannot_be_had_is_a_sentence(
    machine: Machine, hub: MockHub, name: str, parts_of_it: tuple[str, ...]
) -> None:
    for folder, file in (("gated", "x"), ("empty", "x.json"), ("lora", "adapter_config.json")):
        (machine.home / folder).mkdir()
        (machine.home / folder / file).write_text("{}")
        made = Repository(machine.home / folder, gated=folder == "gated")
        hub.repositories[f"some/{folder}"] = made
    said = refused(machine.luthier("generate", "x", "--model", name))
    assert said.startswith("luthier: ")
    for part in parts_of_it:
        assert part in said


def test_a_hub_that_is_down_or_not_reached(machine: Machine, hub: MockHub) -> None:
    hub.status = 404
    said = refused(machine.resolve(f"torch_model('{BASE}', hub)"))
    assert "is not in the cache of this machine, and Hugging Face's hub answered 404" in said
    hub.status = 0
    folder = folder_of(machine.resolve(f"torch_model('{BASE}', hub)"))
    gone = machine.resolve(f"torch_model('{BASE}', hub)", HF_ENDPOINT="http://127.0.0.1:9")
    assert folder_of(gone) == folder
    assert f"cannot be reached: {BASE} is taken from the cache" in gone.stderr


def test_offline_asks_nobody(machine: Machine, hub: MockHub) -> None:
    call = f"torch_model('{BASE}', Hub(offline=True))"
    assert "is not in the cache of this machine, and nobody is asked" in refused(
        machine.resolve(call)
    )
    assert hub.asked == []
    folder = folder_of(machine.resolve(f"torch_model('{BASE}', hub)"))
    asked = len(hub.asked)
    assert folder_of(machine.resolve(call)) == folder
    assert folder_of(machine.resolve(f"torch_model('{BASE}', hub)", HF_HUB_OFFLINE="1")) == folder
    shutil.rmtree(machine.cache)  # ours can be made again of the hub's
    assert folder_of(machine.resolve(call)) == folder
    assert len(hub.asked) == asked
    shutil.rmtree(machine.home / "hf")  # and what only points there is not taken for a model
    assert "is not in the cache" in refused(machine.resolve(call))
    again = folder_of(machine.resolve(f"torch_model('{BASE}', hub)"))
    assert (again / "config.json").read_text()


def test_revisions_by_name_and_by_flag(machine: Machine, hub: MockHub) -> None:
    repository = hub.repositories[BASE]
    other = "0123456789abcdef0123456789abcdef01234567"
    repository.revisions["v1"] = other
    for call in (f"torch_model('{BASE}@v1')", f"torch_model('{BASE}', Hub(revision='v1'))"):
        assert f"@{other[:12]}" in str(folder_of(machine.resolve(call)))
    call = f"torch_model('{BASE}@v1', Hub(revision='main'))"
    assert "leave one out" in machine.resolve(call).stderr


def test_without_the_library_one_sentence_says_what_to_install(machine: Machine) -> None:
    hide = "import importlib.util as u; real = u.find_spec"
    hide += "; u.find_spec = lambda n, *a: None if n == 'huggingface_hub' else real(n, *a)"
    script = f"{hide}; import sys; from luthier.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ["generate", "x", "--model", BASE]
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True,
        text=True,
        env=machine.environment(),
        cwd=machine.home,
        check=False,
    )
    said = refused(done)
    assert f"there is no folder {BASE} here" in said
    assert "pip install 'luthier[train]'" in said


# --- from the hub to sound --------------------------------------------------------------------


def test_generate_exports_once_and_then_needs_no_torch(machine: Machine, hub: MockHub) -> None:
    words = ["generate", "calm", "--model", TURBO, "--precision", "fp32", *PLAY]
    first = machine.luthier(*words, "--out", "a.wav")
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("licence: mit") == 1
    assert "exporting ACE-Step/acestep-v15-turbo in fp32, once" in first.stderr
    (graphs,) = (machine.cache / "graphs").rglob("acestep-v15-turbo")
    run = read_json(graphs / "run.json")
    assert run["licences"] == ["mit"]
    assert run["inputs"][0]["hub"].startswith(f"{MAIN}@")
    script = (
        "import sys; from luthier.cli.main import main; code = main(sys.argv[1:]);"
        "print(sorted({'torch', 'transformers', 'diffusers', 'onnx'} & set(sys.modules)));"
        "sys.exit(code)"
    )
    second = subprocess.run(
        [sys.executable, "-c", script, *words, "--out", "b.wav", "--offline"],
        capture_output=True,
        text=True,
        env=machine.environment(),
        cwd=machine.home,
        check=False,
    )
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[-1] == "[]"
    assert "licence" not in second.stderr
    pieces = [(machine.home / name).read_bytes() for name in ("a.wav", "b.wav")]
    assert pieces[0] == pieces[1]
    traced = machine.luthier("trace", "b.wav")
    assert traced.returncode == 0
    assert "mit" in traced.stdout


def test_two_at_once_export_once(machine: Machine) -> None:
    words = ["generate", "calm", "--model", BASE, *PLAY]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "luthier", *words, "--out", f"{index}.wav"],
            stderr=subprocess.PIPE,
            text=True,
            env=machine.environment(),
            cwd=machine.home,
        )
        for index in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("exporting ACE-Step/acestep-v15-base in int8, once" in text for text in said) == 1
    pieces = [(machine.home / f"{index}.wav").read_bytes() for index in range(2)]
    assert pieces[0] == pieces[1]
    assert not [p for p in machine.cache.rglob(".*")], "no lock and no temporary folder is left"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("export", BASE, "--out", "graphs", "--precision", "fp16"),
        ("matrix", "--model", f"b={BASE}", "--bpm", "90", "--key", "Am", "--task", "text2music",
         "--duration", "1", "--steps", "1", "--out", "m"),
        ("train", "--dataset", "SET", "--exp-name", "x", "--model", BASE, "--logs-dir", "logs",
         "--max-steps", "1", "--batch-size", "1", "--crop-s", "1", "--samples", "0"),
        ("evaluate", BASE, "--reference", "SET", "--sample-duration", "4", "--sample-steps", "1",
         "--prompts-file", "prompts.txt", "--no-cache"),
        ("compare", BASE, "ACE-Step/turbo-diffusers", "--reference", "SET", "--sample-duration",
         "4", "--sample-steps", "1", "--prompts-file", "prompts.txt", "--no-cache"),
        ("serve", "--model", BASE, "--dry-run"),
        ("mcp", "--model", BASE, "--dry-run"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_every_verb_takes_a_model_of_the_hub(machine: Machine, words: tuple[str, ...]) -> None:
    from tiny_checkpoints import validation_set

    (machine.home / "prompts.txt").write_text("calm piano\n")
    given = [str(validation_set()) if word == "SET" else word for word in words]
    done = machine.luthier(*given)
    assert done.returncode == 0, done.stderr
    assert "licence: mit" in done.stderr


@pytest.mark.slow
def test_a_merge_on_a_model_of_the_hub_copies_what_links_point_to(machine: Machine) -> None:
    from tiny_checkpoints import validation_set

    train = ["train", "--dataset", str(validation_set()), "--exp-name", "x", "--model", BASE]
    train += ["--logs-dir", "logs", "--max-steps", "1", "--batch-size", "1", "--crop-s", "1"]
    assert machine.luthier(*train, "--samples", "0", "--quiet").returncode == 0
    (adapter,) = (machine.home / "logs" / "x" / "checkpoints").iterdir()
    record = read_json(machine.home / "logs" / "x" / "run.json")
    assert record["inputs"][0]["hub"].startswith(f"{BASE}@")
    words = ["merge", "--base-model", BASE, "--adapter", str(adapter), "--output-dir", "merged"]
    done = machine.luthier(*words, "--verify")
    assert done.returncode == 0, done.stderr
    assert not [p for p in (machine.home / "merged").rglob("*") if p.is_symlink()]


@pytest.mark.slow
def test_a_planner_of_the_hub_plans(machine: Machine, hub: MockHub) -> None:
    from tiny_lm import tiny_lm_torch

    hub.repositories["ACE-Step/acestep-5Hz-lm-0.6B"] = Repository(tiny_lm_torch())
    words = ["plan", "calm", "--model", "ACE-Step/acestep-5Hz-lm-0.6B", "--json", "--seed", "1"]
    first = machine.luthier(*words)
    assert first.returncode == 0, first.stderr
    again = machine.luthier(*words, "--offline")
    assert json.loads(first.stdout) == json.loads(again.stdout)


def test_graphs_that_were_published_play_without_links_to_their_weights(
    machine: Machine, hub: MockHub
) -> None:
    from tiny import tiny_onnx

    hub.repositories["some/graphs"] = Repository(tiny_onnx("int8"), {"license": "cc0-1.0"})
    done = machine.luthier("generate", "x", "--model", "some/graphs", *PLAY, "--out", "a.wav")
    assert done.returncode == 0, done.stderr
    (folder,) = (machine.cache / "hub" / "some").glob("graphs@*")
    assert not [p for p in folder.rglob("*.onnx*") if p.is_symlink()]
    assert "it holds" not in done.stderr
    said = refused(machine.luthier("export", "some/graphs"))
    assert "holds graphs, which play" in said
