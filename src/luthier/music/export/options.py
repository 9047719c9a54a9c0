"""What can be chosen about an export, and what contradicts what."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from luthier.errors import RequestError
from luthier.export.graph_file import Exporter
from luthier.export.precision import INT8_KINDS, PRECISIONS, Int8, Precision
from luthier.music.export.calibration import ENOUGH_PROMPTS
from luthier.music.torch.model_folder import ModelFolder

OPSETS = range(17, 22)
DEFAULT_OPSET, INT4_OPSET = 18, 21
_PLANNERS = "acestep-5Hz-lm-*"  # as the original's downloader names them, beside the model


@dataclass(frozen=True)
class ExportOptions:
    """Everything that can be chosen about an export.

    Attributes:
        precision: the tier.
        opset: of the ONNX standard; None takes 18, with int4 21, which is told.
        verify: measure parity and quality, and fail where they are too low.
        exporter: how torch is turned into ONNX.
        int8: how 8-bit matrices are multiplied.
        calibration: JSON with prompts; int4 and static int8 need it.
        planners: folders of 5 Hz language models; None takes those beside an original checkpoint.
    """

    precision: Precision = "fp32"
    opset: int | None = None
    verify: bool = False
    exporter: Exporter = "trace"
    int8: Int8 = "dynamic"
    calibration: Path | None = None
    planners: tuple[Path, ...] | None = None
    opset_raised: bool = False  # by `settled`

    @property
    def needs_calibration(self) -> bool:
        """Whether prompts decide how weights or activations are rounded."""
        return self.precision == "int4" or (self.precision == "int8" and self.int8 == "static")

    @property
    def inputs(self) -> tuple[Path, ...]:
        """What is read besides the model."""
        return (*(self.planners or ()), *([self.calibration] if self.calibration else []))

    def settled(self) -> ExportOptions:
        """The options with the opset set; raise `RequestError` for what is not allowed."""
        if self.precision not in PRECISIONS:
            raise RequestError(f"precision is {self.precision!r}: choose {', '.join(PRECISIONS)}.")
        if self.int8 not in INT8_KINDS:
            raise RequestError(f"int8 is {self.int8!r}: choose {', '.join(INT8_KINDS)}.")
        int4 = self.precision == "int4"
        opset = self.opset or (INT4_OPSET if int4 else DEFAULT_OPSET)
        if opset not in OPSETS:
            raise RequestError(f"opset is {opset}: choose {OPSETS.start} to {OPSETS.stop - 1}.")
        if int4 and opset < INT4_OPSET:
            raise RequestError(
                f"int4 needs opset {INT4_OPSET} or newer and opset {opset} was asked for: leave "
                f"--opset out, or choose int8."
            )
        return replace(self, opset=opset, opset_raised=int4 and self.opset is None)

    def notices(self, prompts: int) -> tuple[str, ...]:
        """What the user should know about settled options and the number of prompts."""
        found = []
        if self.opset_raised:
            found.append(f"int4 needs opset {INT4_OPSET}: that was taken.")
        if self.needs_calibration and prompts < ENOUGH_PROMPTS:
            found.append(
                f"calibrated on {prompts} prompts: {ENOUGH_PROMPTS} over all styles, with voices, "
                "are better."
            )
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        planners = None if self.planners is None else [str(path) for path in self.planners]
        calibration = str(self.calibration) if self.calibration else None
        return asdict(self) | {"calibration": calibration, "planners": planners}


def default_lms(model: ModelFolder) -> tuple[Path, ...]:
    """The planners that lie beside a checkpoint in the original layout."""
    if model.layout != "original":
        return ()
    return tuple(sorted(p for p in model.folder.parent.glob(_PLANNERS) if p.is_dir()))
