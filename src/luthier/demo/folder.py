"""The folder of a demo: whose it has to be, and what in it a demo may make anew."""

from __future__ import annotations

from pathlib import Path

from luthier.dataset.rejected import foreign_tracks
from luthier.errors import OutputError
from luthier.files import check_name
from luthier.output_folder import check_output, is_empty, refuse_overlap, stage_of, told
from luthier.report.document import check_page
from luthier.training.run_folder import foreign_in_run

STAGE = "demo"  # in the records of the folder and of what no other stage makes in it
REPORT_NAME, MEASURES_NAME = "report.html", "measures.json"
BEGUN_NAME = ".demo-begun"  # there from the first moment to the last: a demo's folder, unfinished
# sub-folder -> the stage that makes it anew
_REPLACED = {
    "recordings": STAGE,
    "metadata": STAGE,
    "dataset": "dataset",
    "adapter": "train",
    "merged": "merge",
    "onnx": "export",
    "onnx-fp32": "export",
    "clips": STAGE,
    "held-out": STAGE,
}


def check_demo_folder(out: Path, source: Path) -> None:
    """Refuse, before any work, a folder in which a demo would cost something; touch nothing.

    Args:
        out: new or empty, or of an earlier demo, finished or not.
        source: the recordings.

    Raises:
        OutputError: the folder is another's, or the recordings lie in it or around it, or in one of
            its parts lies what luthier did not write.
    """
    check_name(out)
    refuse_overlap(out, [source])
    begun = (out / BEGUN_NAME).is_file()
    if out.is_dir() and not is_empty(out) and not begun and stage_of(out) != STAGE:
        check_output(out, STAGE)
    for name, stage in _REPLACED.items():
        check_output(out / name, stage)
    check_page(out / REPORT_NAME)
    parts = {"curated": foreign_tracks(out / "curated"), "logs": foreign_in_run(out / "logs")}
    for name, foreign in parts.items():
        if foreign:
            raise OutputError(
                f"{told(foreign)} in {out / name}, and luthier did not write that: move it away, "
                "or choose another folder."
            )
