"""The same seeds give the same numbers, over both links: what a refactoring must not change.

Each case runs a whole session and pins what it measured, judged and leaks. The numbers were taken
from the sessions themselves and have no other authority: tests of the physics are elsewhere. They
are compared to a part in 10,000, since libraries of linear algebra differ in their last digits.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labctl.data import shipped_station_path
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.disguise import FRESH_ORDER, PLAIN, Disguise
from labctl.protocols.encoding import Floats
from labctl.protocols.hiding.decoys import Decoys, decoy_key_of_seed
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.protocols.verification.client_guard import ClientGuard, PowerLimit, PowerMonitor
from labctl.station import Station
from labctl.station.equipment import equipment_of
from labctl.units import ratio_to_db

SIZES = (40, 24, 6)
IMAGES = 6
EXACT = 1e-4

SETTINGS = SessionSettings(
    light=Light(4.0, PLAIN),
    channel=Channel(loss_db=0.6, technical_noise=0.001),
    receiver=CloneReceiver(1.6, 1.1, Homodyne(0.9, 0.02)),
    verifier=Homodyne(0.85, 0.03),
    assumptions=Assumptions(Trust.TRUSTED, Trust.UNTRUSTED),
    sampling=Sampling.ALL,
    seed=7,
)


def network() -> Network:
    draw = np.random.default_rng(21)
    layers = [
        draw.uniform(-1.5, 1.5, shape).astype(np.float32)
        for shape in zip(SIZES[1:], SIZES[:-1], strict=True)
    ]
    return Network(tuple(layers), "pinned", {})


def images() -> Floats:
    return np.random.default_rng(22).random((IMAGES, SIZES[0]), dtype=np.float32)


def decoys() -> Decoys:
    draw = np.random.default_rng(23)
    own = draw.random((SIZES[-1], SIZES[0]), dtype=np.float32)
    labels = (np.arange(240) // 2 % SIZES[-1]).astype(np.uint8)
    scatter = draw.random((240, SIZES[0]), dtype=np.float32)
    store = LabelledImages(own[labels] + np.float32(0.6) * scatter, labels)
    return Decoys(store, 2, decoy_key_of_seed(0))


def found(session: Session, *, batch_images: int) -> list[float]:
    """Run the session; return sums over what was measured, the verdict's figures, the leakage."""
    batches = list(session.run(images(), batch_images=batch_images))
    numbers = []
    for layer in range(len(SIZES) - 1):
        values = np.concatenate([batch.measured[layer] for batch in batches]).astype(np.float64)
        numbers += [float(np.sum(values**2)), float(values[-1, -1]), float(values[0, 0])]
    verdict = session.verdict(session.expectation())
    if verdict.accepted is not None:
        assert verdict.accepted is True
        assert verdict.transmittance is not None
        assert verdict.excess_noise is not None
        assert verdict.excess_noise_upper is not None
        assert verdict.weights_bits_prior_free_upper is not None
        assert verdict.collective is not None
        numbers += [
            verdict.transmittance,
            verdict.excess_noise,
            verdict.excess_noise_upper,
            verdict.weights_bits_prior_free_upper,
            verdict.collective.estimate,
            float(verdict.samples),
        ]
    leakage = session.leakage()
    classes = np.concatenate([batch.classes for batch in batches])
    weights, prior_free = leakage.weights_bits_per_real, leakage.weights_bits_prior_free
    return [*numbers, weights, prior_free, *classes.astype(float)]


CASES = {
    "measured values alone": replace(SETTINGS, sampling=Sampling.MEASURED),
    "measured values alone, fresh order": replace(
        SETTINGS, sampling=Sampling.MEASURED, light=replace(SETTINGS.light, disguise=FRESH_ORDER)
    ),
    "all modes": SETTINGS,
    "all modes in blocks": replace(SETTINGS, channel=replace(SETTINGS.channel, block_modes=8)),
    "all modes, fresh order": replace(
        SETTINGS, light=replace(SETTINGS.light, disguise=FRESH_ORDER)
    ),
    "all modes, fresh order and signs": replace(
        SETTINGS, light=replace(SETTINGS.light, disguise=Disguise(permute=True, signs=True))
    ),
    "all modes, decoys, fresh order": replace(
        SETTINGS, light=replace(SETTINGS.light, disguise=FRESH_ORDER), hiding=Hiding(decoys=2)
    ),
}
# Sum of squares, last and first value of each layer; T, excess noise and its upper bound, bits at
# the bounds, collective noise, samples; honest and prior-free bits per real; classes.
PINNED_TEXT = {
    "measured values alone": (
        "657.9629 2.8718 1.448608 213.1937 1.372795 0.006299138 0.5364593 1.274142 2 4 1 1 3 4"
    ),
    "measured values alone, fresh order": (
        "657.9629 1.843885 2.217824 213.1937 1.372795 0.006299138 0.5364593 1.274142 2 4 1 1 3 4"
    ),
    "all modes": (
        "582.7397 -1.606922 -0.81034 147.5238 0.6987853 0.1615073 0.8752308 0.06006188 "
        "0.3644696 1.786228 0.06900483 3312 0.5364593 1.274142 5 0 5 3 4 1"
    ),
    "all modes in blocks": (
        "655.8795 1.468008 0.02237928 153.7581 1.838311 1.488398 0.8600017 0.1234797 "
        "0.3968171 1.797986 0.07727097 3312 0.7634764 1.505703 1 2 0 2 3 1"
    ),
    "all modes, fresh order": (
        "723.8315 -1.219935 -0.7394466 182.4702 1.128194 0.2105529 0.8803952 0.05737344 "
        "0.3597418 1.783212 0.1085273 3312 0.5364593 1.274142 2 0 5 4 4 3"
    ),
    "all modes, fresh order and signs": (
        "585.8782 -2.808945 -0.7394466 143.763 1.530761 -1.924007 0.8626981 0.05401785 "
        "0.336769 1.780465 0.1802464 3744 0.397656 1.115496 1 4 2 5 4 1"
    ),
    "all modes, decoys, fresh order": (
        "614.9414 0.6611449 0.1136255 197.8832 5.398763 3.201419 0.8723962 0.118277 0.3868071 "
        "1.795077 0.03388803 3312 0.9086951 1.615954 2 5 0 1 2 5"
    ),
    "bench, plain": (
        "0.02803089 -0.001614283 -2.912336e-05 0.00884244 0.02625249 0.009441278 0.8941546 "
        "0.0936549 0.4531372 1.80482 0.0244749 3312 0.5834842 1.325072 5 2 0 4 2 0"
    ),
    "bench, fresh order": (
        "0.03304696 0.007230056 -0.002201794 0.01061399 0.007903324 0.001787707 0.8887199 "
        "0.08515647 0.4378633 1.80482 0.112717 3312 0.5834842 1.325072 5 4 4 4 4 4"
    ),
}
PINNED = {name: [float(each) for each in text.split()] for name, text in PINNED_TEXT.items()}


@pytest.mark.parametrize("case", CASES)
def test_the_mode_level_link_gives_the_same_numbers(case: str) -> None:
    settings = CASES[case]
    limit = PowerLimit(settings.light.mean_photons * settings.leg_transmittance, peak_ratio=100.0)
    session = Session(
        network(),
        settings,
        ModeLink(settings),
        guard=ClientGuard(limit, PowerMonitor(), seed=settings.seed),
        collection=decoys() if settings.hiding.decoys else None,
    )
    assert found(session, batch_images=4) == pytest.approx(PINNED[case], rel=EXACT)


@pytest.mark.parametrize(
    "disguise",
    [
        pytest.param(Disguise(), id="plain", marks=pytest.mark.long),
        pytest.param(FRESH_ORDER, id="fresh order"),
    ],
)
def test_the_bench_link_gives_the_same_numbers(disguise: Disguise) -> None:
    with Station.read(shipped_station_path()) as station:
        client, server = station.table.client.constants, station.table.server.constants
        homodyne = Homodyne(client.efficiency, client.electronic_noise)
        settings = replace(
            SETTINGS,
            receiver=CloneReceiver(2.0, client.emission_factor, homodyne),
            verifier=Homodyne(server.efficiency, 0.0),
            channel=replace(
                SETTINGS.channel, loss_db=-ratio_to_db(server.transmittance), technical_noise=0.0
            ),
            light=replace(SETTINGS.light, disguise=disguise),
        )
        link = BenchLink(equipment_of(station), settings)
        session = Session(network(), settings, link)
        link.prepare(list(session.server.templates))
        numbers = found(session, batch_images=1)
    name = "bench, plain" if disguise.plain else "bench, fresh order"
    assert numbers == pytest.approx(PINNED[name], rel=EXACT)


def test_another_seed_gives_other_numbers() -> None:
    """The check of the check: another seed changes what is pinned."""
    settings = replace(SETTINGS, seed=8)
    other = found(Session(network(), settings, ModeLink(settings)), batch_images=4)
    assert other != pytest.approx(PINNED["all modes"], rel=EXACT)
