"""Sessions whose constants are hidden: how often the bounds of a verdict fail, counted.

At mode level, where thousands of sessions are quick. For each seed the truth of the receiver's
efficiency, of its electronic noise and its local oscillator's intensity noise, of mu and of the
link's transmittance is drawn around what a calibration states, by the uncertainty that it states;
the client may tap. The session runs on the truth, the bounds are those of the statement, by the
same `bench_doubts` as a bench's. In half of the sessions the intensity noise was measured again
since the efficiency and the link were calibrated. Networks are small and gains large, where noise
on one mode per row matters most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np
from scipy import stats

from labctl.calibration import names
from labctl.calibration.knowledge import Knowledge
from labctl.calibration.quantity import Quantity
from labctl.calibration.shot_noise import ReceiverCalibration, calibration_from_variances
from labctl.data import shipped_station_path
from labctl.data.models import Network
from labctl.protocols.bench_doubts import bench_doubts, lo_excess_noise
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver, Homodyne
from labctl.protocols.server.transmitter import Level
from labctl.protocols.session import Batch, Session
from labctl.protocols.settings import (
    Channel,
    Light,
    Sampling,
    SessionSettings,
    VerificationSettings,
)
from labctl.protocols.verification.bounds import Bounds, Clones, bounds_of
from labctl.protocols.verification.channel import Estimate, Expectation, estimate_channel
from labctl.protocols.verification.doubts import EXACT
from labctl.station.file import ServerConstants, StationFile
from labctl.toml_file import read_toml
from labctl.units import db_to_ratio, ratio_to_db

# Failures that can be counted: one at 1e-10 is never seen.
PROBABILITIES = (0.05, 0.005)
# What is drawn from: layers of few rows and of many, gains from gentle to bright, a tap that steals
# in one case of three, few queries and some.
_SIZES = ((8, 6, 3), (40, 20, 5), (200, 30, 4))
_GAINS = (1.05, 1.3, 2.0, 4.0)
_TAPS = (0.0, 0.0, 0.1)
_IMAGES = (1, 3, 10)
_PHOTONS, _LOSS_DB = 2.0, 2.0
# Relative standard uncertainties: power meters and efficiency as on the shipped station.
_LIGHT, _EFFICIENCY, _LINK = 0.03, 0.03, 0.005
_LINK_DEGREES = 11
_ELECTRONIC, _ELECTRONIC_SAMPLES, _BLOCKED_SAMPLES = 0.06, 4000, 1_000_000
# Intensity noise of the local oscillator in SNU: five times that of the shipped laboratory, and
# known four times worse, so that it matters as much as efficiency and light do.
_EXCESS, _EXCESS_ERROR = 0.25, 0.03
_STATED_EFFICIENCY = 0.83
# In common with the efficiency and the link where the intensity noise was not measured again.
_RECORDS = {"efficiency": "1", "photon_number": "1", "attenuator": "1", "channel": "1"}


@dataclass(frozen=True)
class Case:
    """What a session's bounds at one failure probability were worth, each True if it held.

    `together`: all of those that one assumption on the loss needs, for either assumption.
    `as_exact`: the same if the constants were taken as exact and all noise as white.
    """

    probability: float
    transmittance: bool
    excess_noise: bool
    mean_photons: bool
    share: bool
    client_noise: bool
    together: bool
    as_exact: bool


@dataclass(frozen=True)
class Count:
    """Failures of one bound among `sessions`, with the 95 % range of their probability."""

    name: str
    probability: float
    failures: int
    sessions: int
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the count is consistent with failing no more often than stated."""
        return self.low <= self.probability


@dataclass(frozen=True)
class _Truth:
    """What is true of one session."""

    transmittance: float
    excess_noise: float
    mean_photons: float
    share: float
    client_noise: float

    def held(self, bounds: Bounds, probability: float, as_exact: bool) -> Case:
        transmittance = bounds.round_trip.transmittance <= self.transmittance
        noise = bounds.round_trip.excess_noise >= self.excess_noise
        light = bounds.mean_photons >= self.mean_photons
        share = bounds.in_client.transmittance <= self.share
        client = bounds.in_client.excess_noise >= self.client_noise
        together = transmittance and noise and light and share and client
        return Case(probability, transmittance, noise, light, share, client, together, as_exact)


@dataclass(frozen=True)
class _Receiver:
    """A receiver whose truth is drawn around its records.

    efficiency: true. `stated`: intensity noise by the newest record; `earlier`: by the one that
    efficiency and link rest on, the same where `again` is False.
    """

    efficiency: float
    stated: float
    earlier: float
    again: bool

    @classmethod
    def drawn(cls, draw: np.random.Generator) -> _Receiver:
        again = bool(draw.random() < 0.5)
        earlier = _EXCESS + _EXCESS_ERROR * float(draw.standard_normal())
        stated = _EXCESS + _EXCESS_ERROR * float(draw.standard_normal()) if again else earlier
        meter = 1.0 + _EFFICIENCY * float(draw.standard_normal())
        # Stated is K (1 + x) / (B - E) with the x of then and K as the meter has it.
        return cls(
            _STATED_EFFICIENCY * meter * (1.0 + _EXCESS) / (1.0 + earlier), stated, earlier, again
        )

    @property
    def seen_unit(self) -> float:
        """True over stated eta S of the day when the link was calibrated."""
        shot = (1.0 + self.earlier) / (1.0 + _EXCESS)
        return self.efficiency / _STATED_EFFICIENCY * shot


def cases_of(seed: int) -> tuple[Case, ...]:
    """Run the session of a seed and return its bounds' worth at each failure probability."""
    draw = np.random.default_rng([seed, 36])
    sizes, gain = _SIZES[draw.integers(len(_SIZES))], float(draw.choice(_GAINS))
    tap, images = float(draw.choice(_TAPS)), int(draw.choice(_IMAGES))
    weights = tuple(
        draw.standard_normal((rows, inputs)).astype(np.float32) for inputs, rows in pairwise(sizes)
    )
    # True over stated mu.
    light = 1.0 + _LIGHT * float(draw.standard_normal())
    receiver, link = _Receiver.drawn(draw), db_to_ratio(-_LOSS_DB)
    agreed = _settings(gain, link, Homodyne(_STATED_EFFICIENCY, 0.0), seed)
    # What the local oscillator adds is noise of the receiver, as its electronics' is.
    verifier = Homodyne(receiver.efficiency, _ELECTRONIC + _EXCESS)
    true = _settings(gain, link * (1.0 - tap) * light, verifier, seed)
    session = Session(Network(weights, "drawn", {}), agreed, ModeLink(true))
    batches = list(session.run(draw.random((images, sizes[0]), np.float32), batch_images=images))
    # The link was calibrated with the same light and efficiency, whose errors it shares.
    own = _LINK * float(draw.standard_normal())
    scatter = math.sqrt(float(draw.chisquare(_LINK_DEGREES)) / _LINK_DEGREES)
    found = link * (1.0 + own) * light * receiver.seen_unit
    knowledge = _knowledge(receiver, found, _LINK * scatter)
    calibration = _calibrated(session, knowledge, draw)
    evidence = session.server.evidence
    estimate = estimate_channel(evidence, calibration)
    noise = _clone_noise(session, true, batches[0])
    truth = _Truth(
        transmittance=link * (1.0 - tap),
        excess_noise=noise,
        mean_photons=_PHOTONS * light,
        share=1.0 - tap,
        client_noise=noise / link,
    )
    level = Level(_PHOTONS, attenuation_db=0.0, relative_error=0.0, readings=2)
    doubts = bench_doubts(level, calibration, knowledge, _constants())
    expectation = Expectation(found, noise, doubts=doubts)
    clones = Clones.of(evidence)
    return tuple(
        truth.held(
            _bounds(estimate, calibration, expectation, probability, clones),
            probability,
            _held_as_exact(truth, estimate, calibration, expectation, probability),
        )
        for probability in PROBABILITIES
    )


def _knowledge(receiver: _Receiver, found: float, link: float) -> Knowledge:
    """Return what a calibration states; `found` of the link, `link` its own relative error."""
    earlier = {**_RECORDS, "balance": "1", "shot_noise": "1"}
    records = {**earlier, "balance": "2"} if receiver.again else earlier
    error = _EXCESS_ERROR / (1.0 + receiver.earlier)
    efficiency = {"reference meter": _EFFICIENCY, "shot-noise unit": error}
    transmittance = {
        "records": link,
        "photon number": _LIGHT,
        "efficiency": math.hypot(_EFFICIENCY, error),
        "shot-noise unit": error,
    }
    return Knowledge(
        {
            names.EFFICIENCY.of("server"): Quantity.of(
                _STATED_EFFICIENCY, "1", _parts(efficiency, _STATED_EFFICIENCY)
            ),
            names.FIXED_ATTENUATION_DB: Quantity.of(
                41.0, "dB", {"launch meter": _LIGHT * 10.0 / math.log(10.0)}
            ),
            names.TRANSMITTANCE: Quantity.of(
                found,
                "1",
                _parts(transmittance, found),
                degrees_of_freedom={"records": _LINK_DEGREES},
            ),
            names.LO_EXCESS_NOISE.of("server"): Quantity.of(
                receiver.stated, "SNU", {"fit": _EXCESS_ERROR}
            ),
            names.SHOT_NOISE_V2.of("server"): Quantity.of(
                1.0, "V^2", {"blocked variance": 0.0, "excess noise": error}
            ),
        },
        records,
        foundations={"efficiency": earlier, "channel": earlier},
    )


def _parts(relative: Mapping[str, float], value: float) -> dict[str, float]:
    return {source: part * value for source, part in relative.items()}


@cache
def _constants() -> ServerConstants:
    return read_toml(shipped_station_path(), StationFile).server.constants


def counted(cases: Iterable[Case]) -> tuple[Count, ...]:
    """Return how often each bound failed, at each failure probability."""
    every = list(cases)
    names = ("transmittance", "excess_noise", "mean_photons", "share", "client_noise")
    return tuple(
        _count(name, probability, [case for case in every if case.probability == probability])
        for probability in sorted({case.probability for case in every}, reverse=True)
        for name in (*names, "together", "as_exact")
    )


def run(
    seeds: Iterable[int], on_session: Callable[[int], None] = lambda count: None
) -> tuple[Count, ...]:
    """Return the counts over the sessions of these seeds; `on_session` gets 1 for each."""
    found: list[Case] = []
    for seed in seeds:
        found += cases_of(seed)
        on_session(1)
    return counted(found)


def _count(name: str, probability: float, cases: list[Case]) -> Count:
    failures = sum(not getattr(case, name) for case in cases)
    chance = stats.binomtest(failures, len(cases)).proportion_ci(0.95, method="exact")
    return Count(name, probability, failures, len(cases), float(chance.low), float(chance.high))


def _settings(gain: float, transmittance: float, verifier: Homodyne, seed: int) -> SessionSettings:
    return SessionSettings(
        light=Light(_PHOTONS, PLAIN),
        channel=Channel(loss_db=-ratio_to_db(transmittance)),
        receiver=CloneReceiver(gain, 1.0, IDEAL_HOMODYNE),
        verifier=verifier,
        assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
        sampling=Sampling.ALL,
        seed=seed,
        verification=VerificationSettings(calibration_samples=_BLOCKED_SAMPLES, monitor_samples=0),
    )


def _calibrated(
    session: Session, knowledge: Knowledge, draw: np.random.Generator
) -> ReceiverCalibration:
    """Return the calibration as a bench states it, from its two variances and its records."""
    true = session.calibrate()
    assert true is not None
    degrees = _ELECTRONIC_SAMPLES - 1
    scatter = float(draw.chisquare(degrees)) / degrees
    return calibration_from_variances(
        blocked=true.blocked_variance,
        electronic=_ELECTRONIC / (1.0 + _EXCESS + _ELECTRONIC) * scatter,
        samples=true.samples,
        efficiency=_STATED_EFFICIENCY,
        electronic_samples=_ELECTRONIC_SAMPLES,
        lo_excess_noise=lo_excess_noise(knowledge),
    )


def _clone_noise(session: Session, true: SessionSettings, batch: Batch) -> float:
    """Return the true excess noise at the server, averaged over the modes read.

    Where no neuron of a small layer is above 0 there is nothing to rotate to, and so no clone.
    """
    total = samples = 0.0
    for layer, (part, shape) in enumerate(
        zip(session.server.evidence, session.server.shapes, strict=True)
    ):
        lit = 1.0 if not layer else float(np.mean(batch.measured[layer - 1].max(axis=1) > 0.0))
        total += lit * part.samples * shape.loud_modes / shape.modes
        samples += part.samples
    return true.receiver.returned_noise * true.leg_transmittance * total / samples


def _bounds(
    estimate: Estimate,
    calibration: ReceiverCalibration,
    expectation: Expectation,
    probability: float,
    clones: Clones,
) -> Bounds:
    return bounds_of(
        estimate, calibration, expectation, probability, mean_photons=_PHOTONS, clones=clones
    )


def _held_as_exact(
    truth: _Truth,
    estimate: Estimate,
    calibration: ReceiverCalibration,
    expectation: Expectation,
    probability: float,
) -> bool:
    """Tell whether bounds held that take constants as exact, and noise as white."""
    exact = replace(expectation, doubts=EXACT)
    bounds = _bounds(estimate, calibration, exact, probability, Clones())
    return truth.held(bounds, probability, True).together
