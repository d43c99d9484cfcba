"""No attack of the catalogue learns more bits than the figures that say bound, over many queries.

What an attack learned is counted in bits under the network's own Gaussian prior (exact, given what
was looked at and how), and set against the prior-free figure at the true noise and transmittance
that the attack leaves: of one query times the queries, and of the one mode that carries a weight in
all queries.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.leakage.prior_free import prior_free_bits_per_mode
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.settings import (
    Channel,
    Light,
    Sampling,
    SessionSettings,
    VerificationSettings,
)
from labctl.studies.attacks.adaptive_tap import AdaptiveTap
from labctl.studies.attacks.attack import Attack, ChangingAttack, carry_out
from labctl.studies.attacks.catalogue import ATTACKS, attack_of
from labctl.studies.attacks.heterodyne_resend import HeterodyneResend
from labctl.studies.attacks.hidden_tap import HiddenTap
from labctl.studies.attacks.marks import layer_paths
from labctl.studies.attacks.more_modes import CloneMoreModes
from labctl.studies.attacks.over_gain import OverGain
from labctl.studies.attacks.own_laser import OwnLaser
from labctl.studies.attacks.quantum_memory import QuantumMemory
from labctl.studies.attacks.tap import Tap

INPUTS, ROWS = 48, 90
GENERATOR = np.random.default_rng(23)
# As trained networks are: a few bright directions, dark borders, rows of very different power.
BRIGHT = 3.0 * 0.6 ** np.arange(INPUTS)
SPIKED = (GENERATOR.standard_normal((ROWS, INPUTS)) * BRIGHT) @ np.linalg.qr(
    GENERATOR.standard_normal((INPUTS, INPUTS))
)[0]
NETWORKS = {
    "spiked": SPIKED * np.exp(GENERATOR.standard_normal((ROWS, 1))),
    "even": GENERATOR.standard_normal((ROWS, INPUTS)),
}
IMAGES = GENERATOR.random((20, INPUTS), dtype=np.float32)
SETTINGS = SessionSettings(
    light=Light(2.0, PLAIN),
    channel=Channel(loss_db=0.5),
    receiver=CloneReceiver(1.4, 1.0, Homodyne(1.0, 0.0)),
    verifier=Homodyne(1.0, 0.0),
    assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
    sampling=Sampling.ALL,
    seed=4,
    verification=VerificationSettings(calibration_samples=10**8),
)
MORE: tuple[Attack, ...] = (
    AdaptiveTap(0.5),
    AdaptiveTap(10.0),
    CloneMoreModes(1),
    HeterodyneResend(0.5),
    HiddenTap(0.5),
    OverGain(30.0),
    OwnLaser(0.5),
    QuantumMemory(0.5),
    QuantumMemory(10.0),
    Tap(0.5),
)


def thieves() -> list[Attack]:
    """Return all attacks that leave a known mark and read Gaussian weights, and more strengths."""
    network = network_of("even")
    default = [attack_of(name) for name, kind in ATTACKS.items() if str(kind.party) != "server"]
    # A dimmed oscillator takes noise off the books: what it leaves is not what it did.
    default = [attack for attack in default if attack.name != "local-oscillator"]
    # Thieves of working copies are judged by the copy's accuracy.
    default = [attack for attack in default if ".copies." not in type(attack).__module__]
    return [attack for attack in (*default, *MORE) if attack.mark(network, SETTINGS) is not None]


def network_of(kind: str) -> Network:
    return Network((NETWORKS[kind].astype(np.float32),), kind, {})


def fits(attack: Attack) -> bool:
    return not isinstance(attack, CloneMoreModes) or attack.modes <= INPUTS // 2


@pytest.mark.parametrize("queries", [1, 20])
@pytest.mark.parametrize("kind", list(NETWORKS))
@pytest.mark.parametrize(
    "attack", [each for each in thieves() if fits(each)], ids=lambda a: f"{a.name}-{a.strength:g}"
)
def test_nobody_learns_more_than_the_prior_free_figures(
    attack: Attack, kind: str, queries: int
) -> None:
    network = network_of(kind)
    settings = replace(SETTINGS, seed=11 + queries)
    images = LabelledImages(IMAGES[:queries], np.zeros(queries, np.uint8))
    learned = carry_out(attack, network, settings, images).learned
    bits = learned.weights_bits_network
    assert bits is not None
    if isinstance(attack, ChangingAttack):
        mark = attack.mark_after(queries, network, settings)
    else:
        mark = attack.mark(network, settings)
    assert mark is not None
    (path,) = layer_paths(network, settings)
    noise = max(path.leg * path.clone_noise + mark.excess_noise, 0.0)
    through = settings.transmittance * mark.transmittance_ratio
    one = prior_free_bits_per_mode(2.0, through, noise)
    memory = prior_free_bits_per_mode(queries * 2.0, through, queries * noise)
    assert memory <= queries * one * (1.0 + 1e-6)
    assert bits < 0.5 * memory
