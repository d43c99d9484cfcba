"""What a run is refused for before its light is sent."""

from __future__ import annotations

import math
import re

import pytest

from labctl.errors import SettingError
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.leakage.cumulative import AssumedChannel, everything_bits
from labctl.protocols.verification.doubts import EXACT, Doubts, Source
from labctl.run.serving import light_factor

# Sixteen readings of a monitor: far out Student's t of their 15 degrees of freedom has no bound.
FEW_READINGS = Doubts(light=(Source("readings", 0.01, 15.0),))


def test_a_failure_probability_at_which_nothing_bounds_the_light_is_refused() -> None:
    assert 1.0 < light_factor(FEW_READINGS, 1e-10) < 1.5
    assert light_factor(EXACT, 1e-100) == 1.0
    with pytest.raises(
        SettingError, match=r"failure_probability = 1e-40.* bound its light"
    ) as error:
        light_factor(FEW_READINGS, 1e-40)
    told = re.match(r"([\d.e-]+) or more", error.value.valid)
    assert told is not None
    # The smallest that is valid, to the two digits shown: rounded up, and one less is refused.
    least = float(told.group(1))
    assert math.isfinite(light_factor(FEW_READINGS, least))
    with pytest.raises(SettingError, match="or more"):
        light_factor(FEW_READINGS, 0.8 * least)


def test_where_no_failure_probability_bounds_the_light_none_is_named() -> None:
    hopeless = Doubts(light=(Source("readings", 1e30, 1.0),))
    with pytest.raises(SettingError, match="must be larger: so far out"):
        light_factor(hopeless, 1e-10)


def test_light_without_a_bound_leaves_no_bound_in_bits() -> None:
    channel = AssumedChannel(0.9, 0.0, Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED))
    assert channel.bits(math.inf, 0.1) == channel.bits(1.0, 0.1, unseen=math.inf) == math.inf
    assert everything_bits(math.inf) == math.inf
