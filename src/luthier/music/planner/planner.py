"""The planner: a request in, plans out, through the 5 Hz language model of a model folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from luthier.errors import ModelError, RequestError
from luthier.music.planner import prompts
from luthier.music.planner.decoding import Text, write
from luthier.music.planner.facts import CODES_PER_SECOND, parse_facts
from luthier.music.planner.fields import Grammars
from luthier.music.planner.grammar import LYRICS_TOKENS, Grammar
from luthier.music.planner.plan import Plan
from luthier.music.planner.request import PlanRequest
from luthier.music.planner.sampling import Sampling
from luthier.music.planner.vocabulary import Vocabulary
from luthier.music.request_parts import MAX_SEED
from luthier.progress import SILENT, Display
from luthier.runtime.kv import LanguageModel, find_lms
from luthier.runtime.manifest import Manifest
from luthier.runtime.text import load_tokenizer

_TEMPERATURE, _UNDERSTAND_TEMPERATURE = 0.85, 0.3
_FACTS_TOKENS = 700  # the longest caption, the genres and all other fields
_FACTS, _CODES = 0, 1  # which draws of a seed


class Planner:
    """Plans with one exported language model.

    Args:
        folder: holds `io_contract_lm_*.json` and what it names.
        variant: "0.6B", "1.7B" or "4B"; the smallest there is when not given.
        threads: of ONNX Runtime; all cores when not given.

    Raises:
        ModelError: the folder has no planner, or it is damaged.
    """

    def __init__(
        self, folder: Path, variant: str | None = None, threads: int | None = None
    ) -> None:
        contracts = find_lms(folder)
        if not contracts:
            raise ModelError(
                f"the model in {folder} has no planner. ACE-Step 1.5's are the language models "
                "acestep-5Hz-lm-0.6B, -1.7B and -4B, exported to ONNX: name the folder of one."
            )
        if variant and variant not in contracts:
            raise RequestError(
                f"the planner {variant!r} is not in {folder}: choose {', '.join(contracts)}."
            )
        contract = contracts[variant] if variant else next(iter(contracts.values()))
        self.lm = LanguageModel(folder, contract, threads or os.cpu_count() or 1)
        path = Manifest(folder).verified(contract.tokenizer_path)
        self.vocabulary = Vocabulary(
            load_tokenizer(path), contract.first_code, contract.legal_codes
        )
        self._grammars = Grammars(self.vocabulary)

    def plan(self, request: PlanRequest, display: Display = SILENT) -> list[Plan]:
        """Make `batch_size` plans; each is what its own seed alone would give.

        Raises:
            RequestError: the codes to understand are none of this model's.
            ModelError: prompt and answer are longer than the model can see.
        """
        first = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
        seeds = [(first + i) % (MAX_SEED + 1) for i in range(request.batch_size)]
        if request.mode == "compose":
            plans = [self._stated(request, seed, display) for seed in seeds]
            return self._with_codes(request, plans, display) if request.codes else plans
        return [self._described(request, seed, display) for seed in seeds]

    def _stated(self, request: PlanRequest, seed: int, display: Display) -> Plan:
        """The facts of a described piece; nothing is asked when the main ones are given."""
        given, text = request.facts, ""
        if None in (given.bpm, given.keyscale, given.timesignature, given.duration):
            skip = {"caption"} if not request.rewrite_caption else set()
            skip |= {"language"} if not request.guess_language else set()
            prompt = prompts.compose_prompt(request.prompt, request.sung)
            away = prompts.compose_unconditional(request.sung, request.negative_prompt)
            text = self._answer(
                request,
                seed,
                prompt,
                self._grammars.facts(given, skip=frozenset(skip)),
                away,
                display=display,
            )
        facts = given.over(parse_facts(text))
        return Plan("compose", seed, facts, request.sung, (), text)

    def _with_codes(
        self, request: PlanRequest, plans: Sequence[Plan], display: Display
    ) -> list[Plan]:
        """The plans with audio codes, written side by side."""
        sampling, texts, counts = self._sampling(request), [], []
        for plan in plans:
            seconds = request.duration_s or plan.facts.duration or 0
            counts.append(int(seconds * CODES_PER_SECOND))
            away = None
            if sampling.cfg_scale != 1:
                away = self.vocabulary.encode(
                    prompts.codes_unconditional(
                        request.prompt, request.sung, request.negative_prompt
                    )
                )
            prompt = prompts.codes_prompt(request.prompt, request.sung, plan.facts)
            texts.append(
                Text(
                    self.vocabulary.encode(prompt),
                    self._grammars.codes(counts[-1]),
                    np.random.default_rng([plan.seed, _CODES]),
                    away,
                )
            )
        written = write(self.lm, texts, sampling, max(counts), codes_only=True, display=display)
        first = self.vocabulary.first_code
        return [
            replace(plan, codes=tuple(token - first for token in tokens))
            for plan, tokens in zip(plans, written, strict=True)
        ]

    def _described(self, request: PlanRequest, seed: int, display: Display) -> Plan:
        """Inspiration, format and understanding: all facts, then lyrics."""
        if request.mode == "inspire":
            quiet = request.sung == "[Instrumental]"
            prompt = prompts.inspiration_prompt(request.prompt, instrumental=quiet)
        elif request.mode == "format":
            prompt = prompts.format_prompt(request.prompt, request.lyrics)
        else:
            prompt = prompts.understand_prompt(self._known(request.audio_codes))
        grammar = self._grammars.facts(request.facts, genres=True, lyrics=True)
        text = self._answer(request, seed, prompt, grammar, None, display=display)
        facts = request.facts.over(parse_facts(text))
        return Plan(request.mode, seed, facts, prompts.lyrics_of(text), (), text)

    def _known(self, codes: tuple[int, ...]) -> tuple[int, ...]:
        for code in codes:
            if code >= self.vocabulary.legal_codes:
                raise RequestError(
                    f"the audio code {code} does not exist: codes go from 0 to "
                    f"{self.vocabulary.legal_codes - 1}."
                )
        return codes

    def _answer(
        self,
        request: PlanRequest,
        seed: int,
        prompt: str,
        grammar: Grammar,
        away: str | None,
        *,
        display: Display,
    ) -> str:
        sampling, encode = self._sampling(request), self.vocabulary.encode
        ids = encode(prompt)
        guiding = encode(away) if away is not None and sampling.cfg_scale != 1 else None
        text = Text(ids, grammar, np.random.default_rng([seed, _FACTS]), guiding)
        room = _FACTS_TOKENS + (0 if request.mode == "compose" else LYRICS_TOKENS)
        longest = max(len(ids), len(guiding or ()))
        room = min(room, self.lm.contract.context_length - longest)
        (tokens,) = write(self.lm, [text], sampling, room, display=display)
        return self.vocabulary.decode(tokens)

    def _sampling(self, request: PlanRequest) -> Sampling:
        usual = _UNDERSTAND_TEMPERATURE if request.mode == "understand" else _TEMPERATURE
        return Sampling(
            temperature=usual if request.temperature is None else request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            repetition_penalty=request.repetition_penalty,
            cfg_scale=request.cfg_scale,
        )
