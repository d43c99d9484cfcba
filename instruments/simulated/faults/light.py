"""Faults of the light and of what carries it: what breaks between the laser and the records.

Each changes the bench's components from one moment on, as the fault would, and tells nobody: what
a program can know of it is what instruments read afterwards. The returned function repairs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

from labctl.instruments.simulated.bench import LinkBench

LightFaultKind: TypeAlias = Literal[
    "mode hop",
    "laser dims",
    "fibre cut",
    "return fibre cut",
    "fading",
    "return fading",
    "bias jump",
    "polarisation jump",
    "oscillator lost",
    "saturation",
    "detector supply lost",
    "attenuator stuck open",
    "clone without gain",
    "phase noise",
    "clock slip",
    "trigger lost",
    "rotation untriggered",
]
"""What can happen to the light, its receivers, their clocks and the trigger cable."""

LIGHT_FAULTS = frozenset(get_args(LightFaultKind))

# What still crosses a cut fibre: less than any detector sees.
_CUT_DB = 200.0

Repair: TypeAlias = Callable[[], None]


def break_light(
    bench: LinkBench, kind: LightFaultKind, value: float = 0.0, party: str = "client"
) -> Repair:
    """Let a fault happen on a bench; returns what repairs it.

    `value`: the fault's size in its own unit (docs/faults.md); `party`: whose receiver it hits,
    where a fault is one of a receiver.
    """
    of_light: dict[str, Callable[[], Repair]] = {
        "mode hop": lambda: _hop(bench, value),
        "laser dims": lambda: _dim(bench, value),
        "fibre cut": lambda: _lose(bench, "forward", _CUT_DB),
        "return fibre cut": lambda: _lose(bench, "back", _CUT_DB),
        "fading": lambda: _lose(bench, "forward", value),
        "return fading": lambda: _lose(bench, "back", value),
        "bias jump": lambda: _jump(bench, value),
        "attenuator stuck open": lambda: _attribute(
            bench.optics, "attenuator", bench.optics.attenuator.stuck_at(value)
        ),
        "clone without gain": lambda: _without_gain(bench),
        "trigger lost": lambda: bench.trigger.unplug(digitizers=True),
        "rotation untriggered": lambda: bench.trigger.unplug(digitizers=False),
        "clock slip": lambda: _slip(bench, party, value),
    }
    return of_light[kind]() if kind in of_light else _at_receiver(bench, kind, value, party)


def _at_receiver(bench: LinkBench, kind: str, value: float, party: str) -> Repair:
    receiver = bench.optics.receivers[party]
    detector = receiver.detector
    match kind:
        case "polarisation jump":
            return receiver.polarisation.turn(value)
        case "oscillator lost":
            return _attribute(receiver, "lo_fraction", 0.0)
        case "saturation":
            return _attribute(detector, "parameters", replace(detector.parameters, swing_v=value))
        case "detector supply lost":
            dead = replace(detector.parameters, transimpedance_v_a=0.0)
            return _attribute(detector, "parameters", dead)
        case "phase noise":
            return receiver.drift.hurry(value)
        case _:
            raise ValueError(f"{kind!r} is no fault of the light")


def _attribute(owner: object, name: str, broken: object) -> Repair:
    """Replace a component; returns what puts the old one back."""
    before = getattr(owner, name)
    setattr(owner, name, broken)
    return lambda: setattr(owner, name, before)


def _lose(bench: LinkBench, leg: str, loss_db: float) -> Repair:
    """Add a loss to a leg of the fibre."""
    fibre = getattr(bench.optics, leg)
    worse = replace(fibre, connector_loss_db=fibre.connector_loss_db + loss_db)
    return _attribute(bench.optics, leg, worse)


def _hop(bench: LinkBench, hop_hz: float) -> Repair:
    """Let the laser jump to a neighbouring mode of its cavity, `hop_hz` away.

    Its power falls by 3 dB, as at the edge of a mode; and light and local oscillator, whose paths
    differ by some length, change phase by an amount that nobody knows.
    """
    laser = bench.optics.laser
    repair = laser.hop(hop_hz, share=0.5)
    for receiver in bench.optics.receivers.values():
        receiver.drift.hop()
    return repair


def _dim(bench: LinkBench, share: float) -> Repair:
    """Let the laser emit a share of the power that it reports being set to."""
    return bench.optics.laser.hop(0.0, share=share)


def _jump(bench: LinkBench, angle_rad: float) -> Repair:
    """Let charge on the modulator's child I move its bias point, which its lock does not notice."""
    return bench.optics.modulator.child_i.jump(angle_rad)


def _without_gain(bench: LinkBench) -> Repair:
    """Let the clone's amplifier pass the light without amplifying it."""
    rotation = bench.optics.rotation
    parameters = replace(rotation.parameters, gain_per_v=0.0)
    return _attribute(rotation, "parameters", parameters)


def _slip(bench: LinkBench, party: str, offset_ppm: float) -> Repair:
    """Let a receiver's digitizers lose the common clock reference: they run by their own quartz."""
    found = [each for each in bench.digitizers if each.receiver == party]
    repairs = [_attribute(each, "clock_offset", offset_ppm * 1e-6) for each in found]

    def repair() -> None:
        for each in repairs:
            each()

    return repair
