"""Where graphs run: ONNX Runtime's execution providers, by short names."""

from __future__ import annotations

from typing import Any

import onnxruntime

from luthier.errors import RequestError

CPU = "CPUExecutionProvider"
# Short name -> ONNX Runtime's; `auto` takes the first that is there.
PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cpu": CPU,
}
AUTO = "auto"
PROVIDER_NAMES = (AUTO, *PROVIDERS)


def available_providers() -> tuple[str, ...]:
    """The short names of what this installation of ONNX Runtime can run on."""
    present = onnxruntime.get_available_providers()
    return tuple(name for name, provider in PROVIDERS.items() if provider in present)


def provider_named(name: str = AUTO) -> str:
    """ONNX Runtime's name of a provider.

    Args:
        name: cpu, cuda, coreml, directml, or auto for the first of these that is there.

    Raises:
        RequestError: there is no such provider, or not in this installation.
    """
    present = available_providers()
    if name == AUTO:
        return PROVIDERS[present[0]]
    if name not in PROVIDERS:
        raise RequestError(f"provider is {name!r}: choose one of {', '.join(PROVIDER_NAMES)}.")
    if name not in present:
        raise RequestError(
            f"the provider {name} is not in this installation of ONNX Runtime, which has "
            f"{', '.join(present)}: choose one of these, or install the ONNX Runtime that has it."
        )
    return PROVIDERS[name]


def device_of(session: Any) -> str:
    """ONNX Runtime's name of the device whose memory a session works in."""
    return "cuda" if PROVIDERS["cuda"] in session.get_providers() else "cpu"
