"""The house rules that a tool cannot hold: who may import whom, what stays light, how long things
may be.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "luthier"
HEAVY = {"torch", "transformers", "diffusers", "peft", "accelerate", "datasets", "onnx"}
TORCH_FREE = ("audio", "dataset", "matrix", "runtime", "report", "server", "client", "mcp", "cli")
# In a family's folder only these may import torch at module level.
TORCH_SIDE = ("torch", "training", "export", "evaluation")
# package -> packages of luthier it may import; the top-level modules are free for all.
MAY_IMPORT = {
    "audio": set(),
    "runtime": set(),
    "studio": set(),
    "report": {"audio"},
    "dataset": {"audio"},
    "evaluation": {"audio"},
    # Families stand on the stages. Two stages still know one; a seam each will end that.
    "training": {"audio", "music", "report"},
    "export": {"audio", "music", "runtime"},
    "music": {"audio", "dataset", "evaluation", "export", "report", "runtime", "training"},
    "server": {"audio", "dataset", "music", "runtime", "studio"},
    # A client sends what the server reads: the same definitions of fields and states.
    "client": {"audio", "music", "server"},
    "mcp": {"audio", "client", "music", "runtime", "server"},
    "matrix": {"audio", "client", "music", "report", "runtime"},
    "demo": {"audio", "dataset", "music", "report", "training"},
}
MAX_FILE_LINES, MAX_FUNCTION_LINES = 500, 90


def modules(folder: Path = PACKAGE) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def top_level_imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def all_imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_packages_know_only_what_they_may(package: str) -> None:
    for path in modules(PACKAGE / package):
        inside = {name.split(".")[1] for name in all_imports(path) if name.startswith("luthier.")}
        packages = {name for name in inside if (PACKAGE / name).is_dir()} - {package}
        stranger = packages - MAY_IMPORT[package]
        assert not stranger, f"{path.relative_to(ROOT)} imports {sorted(stranger)}"


def test_the_playing_side_imports_no_training_library_at_module_level() -> None:
    for path in modules():
        package, inside = (
            path.relative_to(PACKAGE).parts[:2] if path.parent != PACKAGE else ("", "")
        )
        family_side = package == "music" and inside not in TORCH_SIDE
        if package in TORCH_FREE or family_side:
            heavy = {name.split(".")[0] for name in top_level_imports(path)} & HEAVY
            assert not heavy, f"{path.relative_to(ROOT)} imports {sorted(heavy)}"


@pytest.mark.parametrize(
    "statement",
    [
        "from luthier.cli.main import main; main(['--help'])",
        "from luthier.cli.main import build_parser; build_parser('generate')",
        "import luthier.music.playing.pipeline, luthier.music.playing.adapters",
        "import luthier.music.planner.planner, luthier.cli.thinking",
        "import luthier.runtime.session, luthier.runtime.manifest",
        "import luthier.server.app, luthier.server.serve, luthier.server.workers.worker",
        "import luthier.server.workers.work",
        "import luthier.matrix.child, luthier.matrix.run, luthier.matrix.over_http",
        "import luthier.client",
        "import luthier.mcp.local, luthier.mcp.remote",
    ],
)
def test_playing_loads_no_torch(statement: str) -> None:
    check = f"{statement}\nimport sys; print(sorted(set(sys.modules) & {HEAVY!r}))"
    result = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip().splitlines()[-1] == "[]"


def test_no_command_s_help_loads_torch() -> None:
    """Nor transformers or the like, so that every `luthier VERB --help` is instant, and tells what
    there is where they are not installed.
    """
    check = (
        "import sys; from luthier.cli.main import COMMANDS, build_parser;"
        "[build_parser(verb).format_help() for verb in COMMANDS];"
        f"print(sorted(set(sys.modules) & {HEAVY!r}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip().splitlines()[-1] == "[]"


def test_help_needs_only_the_standard_library() -> None:
    # What makes --help fast is what it does not import: a count holds on any machine, a time does
    # not.
    check = (
        "import sys; from luthier.cli.main import main; main(['--help']);"
        "print([m for m in ('numpy', 'pydantic', 'rich', 'onnxruntime') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip().splitlines()[-1] == "[]"


def test_a_server_is_up_before_it_needs_numbers_or_graphs() -> None:
    check = (
        "import sys, luthier.server.app, luthier.server.serve;"
        "print([m for m in ('numpy', 'onnxruntime', 'av', 'soxr', 'rich') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_every_command_of_the_table_exists_and_says_what_it_does() -> None:
    from luthier.cli.main import COMMANDS, build_parser

    for verb in COMMANDS:
        parser = build_parser(verb)
        assert parser.description, verb
        options = {o for action in parser._actions for o in action.option_strings}
        assert {"--json", "--quiet", "--verbose", "--dry-run", "--version", "-h"} <= options, verb


def test_folders_are_replaced_and_removed_in_few_places() -> None:
    """The rule of what may be replaced is in `output_folder`; who deletes knows whose it is."""
    replacing, removing = set(), set()
    for path in modules():
        place = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            names = {ast.Name: "id", ast.Attribute: "attr", ast.alias: "name"}
            name = getattr(node, names.get(type(node), ""), None)
            replacing |= {place} if name == "atomic_folder" else set()
            removing |= {place} if name == "rmtree" else set()
    # Of the hub: a folder of links in luthier's own cache.
    assert replacing == {"hub_models.py", "output_folder.py", "server/workers/worker.py"}
    assert {place for place in removing if not place.startswith("server/")} == {
        "files.py",  # its own temporary folders
        "export/leftovers.py",  # those of an export that is dead
        "training/checkpoint.py",  # checkpoints that `keep` lets go, with nothing else in them
        "training/run_folder.py",  # a run, with nothing else in it
    }


def test_files_and_functions_stay_short() -> None:
    for path in modules():
        text = path.read_text()
        assert text.count("\n") <= MAX_FILE_LINES, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= MAX_FUNCTION_LINES, f"{path}:{node.lineno} {node.name}"


def test_command_reference_is_in_sync() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from make_cli_reference import reference
    finally:
        sys.path.pop(0)
    assert (ROOT / "docs" / "cli.md").read_text() == reference(), "run  make fix"


def test_help_is_instant() -> None:
    # A loose ceiling against accidents; the benchmark measures the real figure.
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "luthier", "--help"], capture_output=True, check=True)
    assert time.perf_counter() - started < 3.0
