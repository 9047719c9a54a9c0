"""What a task may say beyond the music itself: planning, file format, model, how to treat the seed.

The fields are those of ACE-Step's servers, defined once as `MusicRequest`'s are; some of them have
nothing to decide here and are taken without effect (`NO_EFFECT`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from luthier.errors import RequestError
from luthier.music.request_values import says

if TYPE_CHECKING:
    from luthier.audio.encode import Subtype

_TRUE = ("1", "true", "yes", "y", "on")
# format → suffix and kind of samples
FORMATS: dict[str, tuple[str, Subtype]] = {
    "mp3": (".mp3", "pcm16"),
    "wav": (".wav", "pcm16"),
    "wav32": (".wav", "float"),
    "flac": (".flac", "pcm16"),
    "opus": (".opus", "pcm16"),
    "ogg": (".ogg", "pcm16"),
    "aac": (".aac", "pcm16"),
}
MEDIA_TYPES = {
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".aac": "audio/aac",
}
Format = Literal["mp3", "wav", "wav32", "flac", "opus", "ogg", "aac"]


def truth(value: Any) -> bool:
    """What counts as true in ACE-Step's servers: 1, true, yes, y, on in any case."""
    return str(value).strip().lower() in _TRUE


Switch = Annotated[bool, BeforeValidator(truth)]


class TaskOptions(BaseModel):
    """One task's options."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str | None = says(
        "which model; the first one when it is not said or unknown",
        *("model_name", "modelName", "dit_model", "ditModel"),
        default=None,
        max_length=256,
    )
    audio_format: Annotated[Format, BeforeValidator(lambda v: str(v).strip().lower())] = says(
        "mp3, wav, wav32 (float samples), flac, opus, ogg or aac", default="mp3"
    )
    use_random_seed: Switch | None = says(
        "true: choose a seed, whatever seed says; false: use seed. When it is not said, a seed "
        "that is given is used",
        "useRandomSeed",
        default=None,
    )
    thinking: Switch = says("let the planner write audio codes to play by", default=False)
    sample_mode: Switch = says(
        "let the planner invent the piece from sample_query", "sampleMode", default=False
    )
    sample_query: str = says(
        "a few words to invent a piece from; not empty acts like sample_mode",
        *("sampleQuery", "description", "desc"),
        default="",
        max_length=4096,
    )
    use_format: Switch = says(
        "let the planner write caption and lyrics anew", "useFormat", "format", default=False
    )
    use_cot_caption: Switch = says(
        "let a thinking planner write the caption", "cot_caption", "cot-caption", default=True
    )
    use_cot_language: Switch = says(
        "let a thinking planner name the language", "cot_language", "cot-language", default=True
    )
    lm_temperature: float = says("of the planner", ge=0, le=2, default=0.85)
    lm_cfg_scale: float = says("guidance of the planner", ge=1, le=10, default=2.5)
    lm_top_k: int | None = says("of the planner; 0 or nothing is all", ge=0, default=None)
    lm_top_p: float = says("of the planner", gt=0, le=1, default=0.9)
    lm_repetition_penalty: float = says("of the planner", ge=0.5, le=2, default=1.0)
    lm_negative_prompt: str = says(
        "what the planner is guided away from", default="NO USER INPUT", max_length=4096
    )
    analysis_only: Switch = says(
        "no music: the facts that a planner states for prompt and lyrics",
        "analysisOnly",
        default=False,
    )
    full_analysis_only: Switch = says(
        "no music: facts, caption and lyrics that a planner hears in the source",
        "fullAnalysisOnly",
        default=False,
    )
    extract_codes_only: Switch = says(
        "no music: the source as audio codes", "extractCodesOnly", default=False
    )
    priority: int = says(
        "which of the waiting tasks go first: the higher ones; among equals clients take turns",
        ge=-2,
        le=2,
        default=0,
    )
    webhook: str | None = says(
        "an address that is told when the task has ended; its host must be one that the server "
        "allows",
        default=None,
        max_length=2048,
    )

    @property
    def hears(self) -> Literal["codes", "source", "words"] | None:
        """What is found out instead of making music, as upstream orders the three; None: music."""
        if self.extract_codes_only:
            return "codes"
        if self.full_analysis_only:
            return "source"
        return "words" if self.analysis_only else None

    @property
    def needs_planner(self) -> bool:
        """Whether the task cannot be done without a planner."""
        if self.hears:
            return self.hears != "codes"
        return self.thinking or self.invents or self.use_format

    @property
    def invents(self) -> bool:
        """Whether the planner invents the piece."""
        return self.sample_mode or bool(self.sample_query.strip())

    @property
    def planner_rules(self) -> dict[str, Any]:
        """The fields of a plan's request that these options say."""
        return {
            "temperature": self.lm_temperature,
            "cfg_scale": self.lm_cfg_scale,
            "top_k": self.lm_top_k or 0,
            "top_p": self.lm_top_p,
            "repetition_penalty": self.lm_repetition_penalty,
            "negative_prompt": self.lm_negative_prompt,
            "rewrite_caption": self.use_cot_caption,
            "guess_language": self.use_cot_language,
        }


# name → why it has nothing to decide. Taken, so that existing clients work.
NO_EFFECT = {
    "use_tiled_decode": "long pieces are always decoded in tiles",
    "lm_model_path": "the server's own planner is used",
    "lm_backend": "the planner runs on ONNX Runtime",
    "constrained_decoding": "a planner's answer always follows the grammar",
    "constrained_decoding_debug": "there is no debug output over HTTP",
    "is_format_caption": "whether a caption was written by a planner makes no difference",
    "allow_lm_batch": "the pieces of a batch share one plan",
    "global_caption": "what it does is not settled",
    "chunk_mask_mode": "what it does is not settled",
    "enable_normalization": "the peak is always normalised; see normalization_db",
    "guidance_variant": "see guidance_method",
    "guidance_params": "what they do is not settled",
    "dcw_enabled": "the wavelet correction is not settled",
    "dcw_mode": "the wavelet correction is not settled",
    "dcw_scaler": "the wavelet correction is not settled",
    "dcw_high_scaler": "the wavelet correction is not settled",
    "dcw_wavelet": "the wavelet correction is not settled",
    "eta": "what it does is not settled",
    "momentum": "the momentum of apg is fixed",
}
NO_EFFECT_ALIASES = {
    "useTiledDecode": "use_tiled_decode",
    "constrainedDecoding": "constrained_decoding",
    "constrained": "constrained_decoding",
    "constrainedDecodingDebug": "constrained_decoding_debug",
    "isFormatCaption": "is_format_caption",
    "allowLmBatch": "allow_lm_batch",
    "parallel_thinking": "allow_lm_batch",
}


def options_from(values: dict[str, Any]) -> TaskOptions:
    """Check `values` by field name; raise one `RequestError` in sentences."""
    try:
        return TaskOptions.model_validate(values)
    except ValidationError as error:
        raise RequestError(
            " ".join(
                f"{e['loc'][0]} is {e['input']!r}: {str(e['msg']).rstrip('.')}."
                for e in error.errors()
            )
        ) from error
