"""Gates of a tier's sound: what passes, what fails, and how that is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luthier.music.export.quality import Quality, QualityError, check_quality

GOOD = Quality("int8", "mel-stats-v1", 4, 44, 1.0, 1.04, 0.01, 0.40, 0.39, 0.05)


def test_a_tier_within_its_tolerance_passes() -> None:
    check_quality(GOOD)
    assert GOOD.as_dict()["passed"]
    check_quality(replace(GOOD, fad_tier=0.5, clap_tier=0.9))  # better is no fault


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"fad_tier": 1.06}, "FAD is 1.060 where at most 1.050 is allowed"),
        ({"clap_tier": 0.37}, "CLAP is 0.370 where at least 0.380 is allowed"),
    ],
)
def test_a_missed_gate_is_an_error_with_the_seeds_exit_code(
    changed: dict[str, float], said: str
) -> None:
    worse = replace(GOOD, **changed)
    assert not worse.as_dict()["passed"]
    with pytest.raises(QualityError, match=said) as caught:
        check_quality(worse)
    assert caught.value.exit_code == 3


def test_int4_may_be_further_off() -> None:
    check_quality(replace(GOOD, tier="int4", fad_tier=1.14, tolerance=0.15))


def test_without_clap_the_distance_alone_decides() -> None:
    check_quality(replace(GOOD, clap_fp32=None, clap_tier=None))
