"""A session on a calibrated bench: are mu, G, T and excess noise those of the bench's truth?

The truths are closed forms of the bench's hidden components. Of mu: what the modulator lets through
while the payload alone plays, less its rest, on the way to the fibre. Of the excess noise: what the
true clone adds on the true way back; what the bench adds beyond, phase noise for one, counts as
error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from labctl.calibration import names
from labctl.calibration.knowledge import Knowledge
from labctl.calibration.quantity import Quantity
from labctl.data.models import Network
from labctl.instruments.simulated.bench import LinkBench
from labctl.protocols.bench_doubts import bench_doubts, lo_excess_noise
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.parameters import session_parameters
from labctl.protocols.receiver import CloneReceiver, Homodyne, added_noise
from labctl.protocols.rotation import Rotation
from labctl.protocols.server.transmitter import PAYLOAD_STEP, Level
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.protocols.verification.bounds import Bounds, Clones, bounds_of
from labctl.station.equipment import Equipment
from labctl.units import db_to_ratio, photon_energy_j, ratio_to_db

SESSION = "session"
# Near the settings of `labctl infer`; few rows, so that many benches can be measured.
_MEAN_PHOTONS, _GAIN = 0.7, 1.3
_INPUTS, _ROWS, _QUERIES = 784, 32, 6
# A failure that can be counted.
_FAILURE = 0.05


def session_on(
    world: LinkBench,
    seed: int,
    nominal: Equipment,
    knowledge: Knowledge,
    on_step: Callable[[str], None],
) -> dict[str, tuple[Quantity, float, bool | None]]:
    """Return what a session reports of itself, each quantity with its truth; bounds, if they held.

    seed: of network, inputs and session.

    The bounds are those of a failure probability of 5 %, all of them together.
    """
    equipment = knowledge.applied(nominal)
    settings = _settings(equipment, seed)
    power_w: list[float] = []

    def look(step: str) -> None:
        on_step(step)
        if step in PAYLOAD_STEP:
            power_w.append(world.modulated_power_w())

    draw = np.random.default_rng(seed)
    network = Network((draw.standard_normal((_ROWS, _INPUTS), np.float32),), "drawn", {})
    link = BenchLink(equipment, settings, lo_excess_noise=lo_excess_noise(knowledge), on_step=look)
    session = Session(network, settings, link)
    light = session.server.light(0)
    link.prepare([light])
    for _ in session.run(draw.random((_QUERIES, _INPUTS), np.float32), batch_images=1):
        pass
    assert link.level is not None
    found = session_parameters(
        link.level, settings.receiver, session.estimate(), knowledge.quantities
    )
    rest_w, played_w = power_w[-2:]
    frame_s = link.duration_s(light.layer)
    photons = (played_w - rest_w) * frame_s / photon_energy_j(world.optics.laser.frequency_hz)
    photons /= light.rows * light.modes
    truths = _truths(world, settings, knowledge)
    truths["mean_photons"] = photons * _into_the_fibre(world, link.level.attenuation_db)
    reported: dict[str, tuple[Quantity, float, bool | None]] = {
        name: (quantity, truths[name], None) for name, quantity in found.known().items()
    }
    bounds = _bounds(session, link.level, knowledge, equipment)
    of_the_link = truths["link"]
    share = truths["transmittance"] / of_the_link
    held = {
        "transmittance_lower": (bounds.round_trip.transmittance, truths["transmittance"], True),
        "excess_noise_upper": (bounds.round_trip.excess_noise, truths["excess_noise"], False),
        "mean_photons_upper": (bounds.mean_photons, truths["mean_photons"], False),
        "client_transmittance_lower": (bounds.in_client.transmittance, share, True),
        "client_noise_upper": (
            bounds.in_client.excess_noise,
            truths["excess_noise"] / of_the_link,
            False,
        ),
    }
    for name, (bound, truth, lower) in held.items():
        if math.isfinite(bound):
            reported[name] = (Quantity(bound, 0.0, "1"), truth, (bound <= truth) is lower)
    return reported


def _bounds(session: Session, level: Level, knowledge: Knowledge, equipment: Equipment) -> Bounds:
    calibration, estimate = session.calibrate(), session.estimate()
    assert calibration is not None
    assert estimate is not None
    doubts = bench_doubts(level, calibration, knowledge, equipment.server.constants)
    return bounds_of(
        estimate,
        calibration,
        replace(session.expectation(), doubts=doubts),
        _FAILURE,
        mean_photons=level.mean_photons,
        clones=Clones.of(session.server.evidence),
    )


def _settings(equipment: Equipment, seed: int) -> SessionSettings:
    server, client = equipment.server.constants, equipment.client.constants
    homodyne = Homodyne(client.efficiency, client.electronic_noise)
    return SessionSettings(
        light=Light(_MEAN_PHOTONS, PLAIN),
        channel=Channel(
            loss_db=-ratio_to_db(server.transmittance),
            rotation=Rotation(
                client.rotation_loss_db_per_mode, phase_error_rad=client.rotation_error_rad
            ),
            block_modes=client.block_modes,
        ),
        receiver=CloneReceiver(_GAIN, client.emission_factor, homodyne),
        verifier=Homodyne(server.efficiency, 0.0),
        assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
        sampling=Sampling.ALL,
        seed=seed,
    )


def _into_the_fibre(world: LinkBench, attenuation_db: float) -> float:
    """Return power in the fibre over power after the modulator."""
    truth = world.truth()
    loss_db = truth.transmitter_loss_db - truth.insertion_loss_db
    loss_db += truth.attenuator_scale * attenuation_db
    passed = (1.0 - truth.tap_fraction) * db_to_ratio(-loss_db)
    return passed * world.optics.past_tap("launch")


def _truths(world: LinkBench, settings: SessionSettings, knowledge: Knowledge) -> dict[str, float]:
    truth, optics = world.truth(), world.optics
    modes = math.ceil(_INPUTS / 2)
    block = settings.block_of(modes)
    through = db_to_ratio(-truth.loss_db_per_mode * block)
    forward = truth.forward_transmittance * optics.past_tap("arrival")
    back = truth.back_transmittance * optics.past_tap("return")
    control_v = (_GAIN - 1.0) / knowledge.quantity(names.GAIN_PER_V).value
    gain = 1.0 + truth.gain_per_v * truth.generator_gain["client_gain"] * control_v
    clone = truth.emission_factor * added_noise(gain) * math.ceil(modes / block) / modes
    return {
        "gain": gain,
        "link": forward * back,
        "transmittance": forward * back * through**2,
        "excess_noise": clone * back * through,
    }
