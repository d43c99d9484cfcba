"""The light that the mode-level link draws, number by number against its plain formula."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from labctl.protocols.link import LayerLight
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.settings import Channel, Sampling
from labctl.protocols.streams import stream
from labctl.studies.attacks.false_alarms import HONEST

SETTINGS = replace(
    HONEST,
    channel=Channel(loss_db=0.7, technical_noise=0.02),
    receiver=CloneReceiver(1.7, 1.2, Homodyne(0.9, 0.05)),
    verifier=Homodyne(0.8, 0.1),
    sampling=Sampling.ALL,
    seed=5,
)
# The link's stream of layer 2, and the rows that it draws together: what a seed means.
KEY, TOGETHER = 1 + 2, 112


@pytest.mark.parametrize(("rows", "modes"), [(1, 5), (5, 1), (113, 13), (230, 7)])
def test_every_value_is_that_of_the_plain_formula(rows: int, modes: int) -> None:
    """Two images; single precision."""
    random = np.random.default_rng(8)
    light = LayerLight(2, random.normal(0.0, 2.0, (rows, 2 * modes)).astype(np.float32))
    set_to = random.normal(size=(2, 2 * modes)).astype(np.float32)
    set_to /= np.sqrt((set_to**2).sum(axis=1, keepdims=True))
    exchange = ModeLink(SETTINGS).exchange(light, set_to)
    drawn = stream(SETTINGS.seed, KEY)
    gain, arm = SETTINGS.receiver.gain, SETTINGS.receiver.homodyne
    blocked, efficiency = 1.0 + SETTINGS.verifier.electronic_noise, SETTINGS.verifier.efficiency
    white = blocked + efficiency * SETTINGS.channel.technical_noise
    seen = efficiency * SETTINGS.leg_transmittance
    for image, returned in enumerate(exchange.returned):
        real, imaginary = set_to[image, 0::2], set_to[image, 1::2]
        values = light.x @ real + light.p @ imaginary
        values *= math.sqrt(SETTINGS.leg_transmittance) * SETTINGS.receiver.amplitude_gain
        on_x = drawn.random(rows, dtype=np.float32) < 0.5
        for first in range(0, rows, TOGETHER):
            part = range(first, min(first + TOGETHER, rows))
            read = drawn.standard_normal((len(part), modes), dtype=np.float32)
            fresh = drawn.standard_normal((6, len(part)), dtype=np.float32)
            for row, vacuum, own in zip(part, read, fresh.T, strict=True):
                # X of mode b is Re c X + Im c P: a reading of X shows Re c, one of P Im c.
                shown = real if on_x[row] else imaginary
                unseen = 1.0 - seen / white * float(shown @ shown)
                b_vacuum = math.sqrt(seen / white) * float(shown @ vacuum)
                b_vacuum += math.sqrt(max(unseen, 0.0)) * own[0]
                idler = math.sqrt(2.0 * SETTINGS.receiver.emission_factor - 1.0)
                idler_x, idler_p = idler * own[1], -idler * own[2]
                noise = math.sqrt(gain - 1.0) * b_vacuum
                noise += (gain - 1.0) / math.sqrt(gain) * idler_x - own[3] / math.sqrt(gain)
                values[row] += math.sqrt(arm.efficiency) * noise
                values[row] += math.sqrt(1.0 - arm.efficiency + arm.electronic_noise) * own[5]
                split = math.sqrt(1.0 - 1.0 / gain)
                kick_x, kick_p = split * (idler_x + own[3]), split * (idler_p + own[4])
                # It goes back into the mode that was collected.
                if on_x[row]:
                    kick, sent = kick_x * real - kick_p * imaginary, light.x[row]
                else:
                    kick, sent = kick_p * real + kick_x * imaginary, light.p[row]
                expected = math.sqrt(white) * vacuum + math.sqrt(seen) * kick
                expected = expected + math.sqrt(efficiency * SETTINGS.transmittance) * sent
                np.testing.assert_allclose(
                    returned.measured[row], expected / math.sqrt(blocked), atol=2e-5
                )
        np.testing.assert_array_equal(returned.cosine[:, 0], on_x)
        np.testing.assert_array_equal(returned.sine[:, 0], ~on_x)
        np.testing.assert_allclose(exchange.measured[image], values, atol=2e-5)
