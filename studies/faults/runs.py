"""Faults in a run: each of the catalogue hits a session on the demo's bench; what comes of it?

A small network is run over the shipped station. After its calibration one fault is armed, and the
run goes on. It has four ways to end, of which the last must not happen:

- right: the values are as good as without the fault; a lost reply was asked for again.
- stopped: an error ends it; the laser is dark after the station was left.
- rejected: the verdict says that the light which came back is not what was sent.
- wrong: it ends as if all was well, with worse values.

Whether the laser is dark is read from the simulation itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.data.models import Network
from labctl.errors import LabctlError, SettingError
from labctl.instruments.simulated.faults.plan import FaultyBench
from labctl.instruments.transports.visa_link import close_library, resource_manager
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.disguise import PLAIN
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.station import Station
from labctl.station.equipment import equipment_of
from labctl.station.file import SIMULATED
from labctl.studies.faults.catalogue import CATALOGUE, NamedFault
from labctl.units import ratio_to_db

# A short run: hundreds of faults are tried.
_SIZES = (16, 40)
_IMAGES, _BATCH = 8, 4
_MEAN_PHOTONS, _GAIN = 4.0, 2.0
# F of 320 values scatters by 8 % at one sigma; a run without a fault has 3.1.
_LEAST_SIGNAL_TO_NOISE = 2.0


@dataclass(frozen=True)
class RunOutcome:
    """What came of a fault in a run.

    `ending`: "right", "stopped", "rejected" or "wrong"; `said`: the error or the verdict's reasons,
    with the cause that was found; `named`: whether that is the fault's own cause; `dark`: whether
    the laser is off; `acted`: how often the fault acted.
    """

    fault: str
    ending: str
    said: str
    named: bool
    dark: bool
    acted: int

    @property
    def is_answered(self) -> bool:
        """Whether it was right, or stopped with its own cause and a dark laser."""
        return self.dark and (self.ending == "right" or (self.ending != "wrong" and self.named))


def measured(station: Path, faults: Sequence[NamedFault] = CATALOGUE) -> Iterator[RunOutcome]:
    """Yield what comes of each fault, each in a separate run on a fresh bench."""
    unit = shot_noise_unit(station)
    for fault in faults:
        yield outcome_of(station, fault, unit)


def shot_noise_unit(station: Path) -> ReceiverCalibration:
    """Return the verifier's calibration on the station's bench, which is the same for each run.

    It takes most of a run's time, and no fault happens during it.
    """
    library = _library(station)
    close_library(library)
    try:
        with Station.read(station) as opened:
            session, _ = _prepared(opened)
            unit = session.calibrate()
    finally:
        close_library(library)
    assert unit is not None
    return unit


def outcome_of(station: Path, fault: NamedFault | None, unit: ReceiverCalibration) -> RunOutcome:
    """Return what one fault does to a run; None: no fault at all."""
    library = _library(station)
    close_library(library)
    backend: Any = resource_manager(library).visalib
    bench = FaultyBench(backend.world)
    try:
        ending, said = _run(station, bench, fault, unit)
        dark = bench.bench.optics.laser.emitted_power_w() == 0.0
        acted = bench.hits()
    finally:
        close_library(library)
    named = fault is not None and re.search(fault.cause, said) is not None
    return RunOutcome(fault.name if fault else "none", ending, said, named, dark, acted)


def _library(station: Path) -> str:
    """Return the station's simulated bench; raises SettingError if it has none."""
    library = f"{station.parent / str(Station.read(station).table.library)}"
    if not library.endswith(SIMULATED):
        raise SettingError("library", library, f"a simulated bench, which ends with {SIMULATED}")
    return library


def _prepared(station: Station) -> tuple[Session, BenchLink]:
    """Return a session whose light is levelled and aligned."""
    settings = _settings(station)
    link = BenchLink(equipment_of(station), settings)
    session = Session(_network(), settings, link)
    link.prepare(list(session.server.templates))
    return session, link


def _run(
    station: Path, bench: FaultyBench, fault: NamedFault | None, unit: ReceiverCalibration
) -> tuple[str, str]:
    try:
        with Station.read(station) as opened:
            session, link = _prepared(opened)
            session.server_half.verifier.calibration = unit
            if fault is not None:
                bench.arm(fault.fault)
            values = np.concatenate(
                [batch.measured[0] for batch in session.run(_images(), batch_images=_BATCH)]
            )
            verdict = session.verdict(session.expectation())
            if not verdict.accepted:
                reasons = [check.sentence for check in verdict.checks if check.passed is False]
                return "rejected", "; ".join([*link.causes(), *reasons])
    except LabctlError as error:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", []))
        return "stopped", f"{type(error).__name__}: {error}{notes}"
    found = _signal_to_noise(values)
    return "right" if found > _LEAST_SIGNAL_TO_NOISE else "wrong", f"F = {found:.2f}"


def _settings(station: Station) -> SessionSettings:
    client, server = station.table.client.constants, station.table.server.constants
    homodyne = Homodyne(client.efficiency, client.electronic_noise)
    return SessionSettings(
        light=Light(_MEAN_PHOTONS, PLAIN),
        channel=Channel(loss_db=-ratio_to_db(server.transmittance)),
        receiver=CloneReceiver(_GAIN, client.emission_factor, homodyne),
        verifier=Homodyne(server.efficiency, 0.0),
        assumptions=Assumptions(loss=Trust.TRUSTED, technical_noise=Trust.UNTRUSTED),
        sampling=Sampling.ALL,
        seed=5,
    )


def _network() -> Network:
    draw = np.random.default_rng(11)
    layers = tuple(
        draw.uniform(-1.5, 1.5, shape).astype(np.float32)
        for shape in zip(_SIZES[1:], _SIZES[:-1], strict=True)
    )
    return Network(layers, "small", {})


def _images() -> Floats:
    return np.random.default_rng(12).random((_IMAGES, _SIZES[0]), dtype=np.float32)


def _signal_to_noise(measured: Floats) -> float:
    """Return F of the first layer's values: squared slope over residual variance."""
    weights = _network().layers[0].astype(np.float64)
    weights /= np.sqrt(np.mean(weights**2))
    inputs = _images().astype(np.float64)
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    x, y = (inputs @ weights.T).ravel(), measured.astype(np.float64).ravel()
    slope, offset = np.polyfit(x, y, 1)
    return float(slope**2 / np.var(y - slope * x - offset))
