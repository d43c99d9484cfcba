"""Why a bench fails: what its instruments say of themselves, and how far the light gets.

A record without a frame, or light that comes back too dim, can have any cause between the laser and
the digitizer. `causes_of` asks in the order in which one fault explains all that is behind it:

1. Which instruments were switched off and on since, or do not answer? What was set is lost there.
2. Does the laser emit what it was set to?
3. Does the monitor see the dark of nulled biases, and a steady light when the modulator is driven?
4. Does that light reach the meters of launch, arrival and return, as bright as the last one says?
5. Does each receiver show the shot noise of its local oscillator, and does a trigger reach it?

It takes over the bench for that: what was loaded is gone. The steady light carries no weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from labctl.dsp.recorder import Recorder
from labctl.dsp.sender import FrameSender
from labctl.errors import InstrumentError, InstrumentTimeoutError, StoppedError
from labctl.instruments.capabilities import Digitizer, Restartable, TriggerSource
from labctl.station.equipment import Equipment, FibreMeter
from labctl.units import db_to_ratio, ratio_to_db

_STEADY_NAME = "STEADY"
# A waveform of one level; its length only has to be one that every generator takes.
_STEADY_SAMPLES = 2**14
_READINGS = 4
# What a laser emits may differ from what it was set to by its own calibration, some 10 %.
_LEAST_EMITTED = 0.8
# Losses of connectors and taps scatter by some tenths of a decibel; 1.5 dB is a fault.
_LARGEST_EXCESS_DB = 1.5
# A bias at its null leaves 1e-3 of the light (30 dB of extinction), a moved one far more; readings
# of so little light scatter, and it drifts.
_LARGEST_REST = 10.0
# The shot noise of a local oscillator is some ten times the electronic noise (station file).
_LEAST_NOISE_RATIO = 2.0
# Long enough for the variance to 2 % at 160 MS/s, short enough to cost nothing.
_NOISE_RECORD_S = 50e-6
_BRIGHT_DB, _STEP_DB = 1.0, 8.0
# Bright light that the clone passes on is far above the shot noise of an oscillator.
_LEAST_BRIGHT_RATIO = 3.0


@dataclass(frozen=True)
class Rest:
    """What the monitor read when the light was levelled, in W: at rest and with light modulated."""

    at_rest_w: float
    modulated_w: float


def causes_of(equipment: Equipment, rest: Rest | None) -> list[str]:
    """Return what is found to be wrong, the first cause first; nothing where all looks right.

    rest: what the monitor read when all was well, if it was.
    """
    found = list(_of_instruments(equipment))
    if found:
        return found
    for look in (_at_laser, lambda bench: _at_monitor(bench, rest), _along_fibre, _at_receivers):
        found = _looked(equipment, look)
        if found:
            return found
    return []


def _looked(equipment: Equipment, look: Callable[[Equipment], Iterator[str]]) -> list[str]:
    """Return what a look finds; an instrument that fails meanwhile is a cause itself."""
    try:
        return list(look(equipment))
    except InstrumentError as error:
        return [f"{error.instrument} fails: {error.problem}"]


def _of_instruments(equipment: Equipment) -> Iterator[str]:
    """Yield the instruments that lost their settings, or do not answer."""
    seen: set[str] = set()
    for role, part in equipment.parts().items():
        name = equipment.names.get(role, role)
        if name in seen or not isinstance(part, Restartable):
            continue
        seen.add(name)
        try:
            if part.restarted():
                yield f"{name} was switched off and on: its settings are lost"
        except StoppedError as error:
            yield error.reason  # why the whole station may not be used
            return
        except InstrumentError as error:
            yield f"{name} does not answer: {error.problem}"


def _at_laser(equipment: Equipment) -> Iterator[str]:
    """Yield what is wrong with the laser's emission."""
    server = equipment.server
    name = equipment.names.get("server.laser", "server.laser")
    if not server.laser.emission():
        yield (
            f"{name} is dark though it was switched on: was it restarted, or its interlock opened?"
        )
        return
    emitted_w = server.laser.power_w()
    if emitted_w < _LEAST_EMITTED * server.laser_power_w:
        yield (
            f"{name} emits {emitted_w:.3g} W, set to {server.laser_power_w:.3g} W: it hopped to "
            "another mode, or its power control has failed"
        )


def _at_monitor(equipment: Equipment, rest: Rest | None) -> Iterator[str]:
    """Yield whether the modulator's biases have moved, or no light leaves it."""
    sender = FrameSender(equipment.server, equipment.frame)
    sender.rest()
    at_rest_w = _mean_w(equipment)
    if rest is not None and at_rest_w > _LARGEST_REST * max(rest.at_rest_w, 0.0) + _noise_w(rest):
        yield (
            f"modulator passes {at_rest_w:.2g} W at rest, {rest.at_rest_w:.2g} W when it was "
            "locked: a bias has moved"
        )
        return
    _steady_light(equipment)
    lit_w = _mean_w(equipment)
    if lit_w <= max(2.0 * at_rest_w, 0.0):
        yield (
            f"monitor reads {lit_w:.2g} W while the modulator is driven, {at_rest_w:.2g} W at "
            "rest: light is lost between laser and monitor, or the drive does not reach the "
            "modulator"
        )


def _along_fibre(equipment: Equipment) -> Iterator[str]:
    """Yield where steady, bright light is lost between monitor and return."""
    server, client = equipment.server, equipment.client
    yield from _at_attenuator(equipment)
    server.attenuator.set_attenuation(_BRIGHT_DB)
    passed = _BRIGHT_DB * server.constants.attenuator_slope + server.constants.fixed_attenuation_db
    leg_db = -ratio_to_db(server.constants.transmittance) / 2.0
    expected_w = _mean_w(equipment) * server.constants.monitor_ratio * db_to_ratio(-passed)
    place = "the monitor"
    ways = (
        (server.launch_meter, "launch", 0.0, "the attenuator is not where it is set"),
        (client.arrival_meter, "arrival", leg_db, "the fibre to the client"),
        (server.return_meter, "return", leg_db, "the fibre back to the server"),
    )
    for meter, name, loss_db, suspect in ways:
        if meter is None:
            continue
        seen_w = _fibre_w(meter)
        excess_db = -ratio_to_db(max(seen_w, 1e-30) / expected_w) - loss_db
        if abs(excess_db) > _LARGEST_EXCESS_DB:
            kind = (
                f"{excess_db:.1f} dB too little"
                if excess_db > 0.0
                else (f"{-excess_db:.1f} dB too much")
            )
            yield f"{kind} light between {place} and {name}: {suspect}"
            return
        place, expected_w = name, seen_w


def _at_attenuator(equipment: Equipment) -> Iterator[str]:
    """Yield whether the attenuator moves as it is set."""
    server = equipment.server
    if server.launch_meter is None:
        return
    seen_w = []
    for attenuation_db in (_BRIGHT_DB, _BRIGHT_DB + _STEP_DB):
        server.attenuator.set_attenuation(attenuation_db)
        seen_w.append(max(_fibre_w(server.launch_meter), 1e-30))
    moved_db = ratio_to_db(seen_w[0] / seen_w[1]) / server.constants.attenuator_slope
    if abs(moved_db - _STEP_DB) > _LARGEST_EXCESS_DB:
        yield (
            f"launched light falls by {moved_db:.1f} dB where {_STEP_DB:g} dB more are set: the "
            "attenuator is not where it is set"
        )


def _at_receivers(equipment: Equipment) -> Iterator[str]:
    """Yield which receiver gets no trigger, or shows no shot noise of its local oscillator."""
    server, client = equipment.server, equipment.client
    server.shutter.set(server.constants.shutter_closed_v)
    client.gain.set(client.constants.gain_off_v)
    _steady_light(equipment)
    for channel in server.drive.channels:
        server.drive.generator.burst(channel, cycles=1, trigger=TriggerSource.SOFTWARE)
    ends: dict[str, tuple[Digitizer, int]] = {
        "client": (client.digitizer, client.channel),
        "server": (server.digitizer, server.channel),
    }
    lit: dict[str, float] = {}
    for party, (digitizer, channel) in ends.items():
        try:
            lit[party] = _mean_square(equipment, digitizer, channel)
        except InstrumentTimeoutError:
            name = equipment.names.get(f"{party}.digitizer", party)
            yield f"{name} gets no trigger: the trigger cable, or the generator that sends it"
    bright_v2 = _bright(equipment, *ends["client"]) if "client" in lit else math.inf
    found = False
    server.laser.set_emission(False)
    if client.local_oscillator is not None:
        client.local_oscillator.laser.set_emission(False)
    for party, lit_v2 in lit.items():
        dark_v2 = _mean_square(equipment, *ends[party])
        if lit_v2 < _LEAST_NOISE_RATIO * dark_v2:
            found = True
            yield (
                f"{party}'s receiver shows no shot noise ({lit_v2:.2g} V^2 with the laser on, "
                f"{dark_v2:.2g} V^2 with it off): its local oscillator, its detector or the "
                "detector's supply"
            )
    # The beat of an own laser may be beyond the detector's band, with any clone.
    own = client.local_oscillator is not None
    if not found and not own and bright_v2 < _LEAST_BRIGHT_RATIO * lit.get("client", 0.0):
        yield (
            f"bright light changes the client's record from {lit['client']:.2g} to "
            f"{bright_v2:.2g} V^2: the clone passes none on, or its gain is lost"
        )


def _bright(equipment: Equipment, digitizer: Digitizer, channel: int) -> float:
    """Return the mean square in V^2 of the client's record of bright light, its clone switched on.

    At a gain of 2, which passes as much on as comes.
    """
    client = equipment.client
    client.gain.set(1.0 / client.constants.gain_per_v)
    try:
        return _mean_square(equipment, digitizer, channel)
    finally:
        client.gain.set(client.constants.gain_off_v)


def _mean_square(equipment: Equipment, digitizer: Digitizer, channel: int) -> float:
    """Return the mean square in V^2 of a record that holds no frame."""
    recorder = Recorder(digitizer, channel)
    for _ in range(2):
        recorder.arm(_NOISE_RECORD_S)
        equipment.server.drive.generator.trigger()
        trace = recorder.read()
        equipment.server.drive.generator.wait_for_bursts()
        recorder.fit_range(trace)
    return float(np.mean(trace.voltage_v.astype(np.float64) ** 2))


def _steady_light(equipment: Equipment) -> None:
    """Drive both children between their largest fields by a slow square wave."""
    drive = equipment.server.drive
    sender = FrameSender(equipment.server, equipment.frame)
    sender.forget()
    wave = np.repeat(np.array([1.0, -1.0], np.float32), _STEADY_SAMPLES)
    for channel in drive.channels:
        drive.generator.upload(channel, _STEADY_NAME, wave)
    sender.play(_STEADY_NAME)


def _mean_w(equipment: Equipment) -> float:
    monitor = equipment.server.monitor
    return float(np.mean([monitor.power_w() for _ in range(_READINGS)]))


def _fibre_w(meter: FibreMeter) -> float:
    return float(np.mean([meter.fibre_power_w() for _ in range(_READINGS)]))


def _noise_w(rest: Rest) -> float:
    """Return what readings at rest scatter by: a share of the light that was levelled on."""
    return 0.1 * max(rest.modulated_w - rest.at_rest_w, 0.0)
