"""What an instrument can do harm by, and so in which order a station is left safe."""

from __future__ import annotations

from enum import Enum


class Hazard(Enum):
    """What an instrument puts out, the most harmful first: the order of the way out.

    A driver declares its own as the class attribute `hazard`; a station file may say another.
    `EMISSION`: light that leaves an aperture. `SHUTTER`: what blocks light on its way (a shutter's
    drive, an attenuator). `AMPLIFIER`: optical or electrical gain. `HEATER`: heat in a chip.
    `BIAS`: voltages and waveforms into a load. `NONE`: it only looks.
    """

    EMISSION = "emission"
    SHUTTER = "shutter"
    AMPLIFIER = "amplifier"
    HEATER = "heater"
    BIAS = "bias"
    NONE = "none"


def hazard_of(driver: type) -> Hazard:
    """Return what a class of instruments declares; what declares nothing and emits, emits.

    What declares nothing else counts as `BIAS`: most instruments that are no light sources put
    out voltages, and one that does not loses nothing by its turn.
    """
    declared = getattr(driver, "hazard", None)
    if declared is not None:
        return Hazard(declared)
    return Hazard.EMISSION if emits(driver) else Hazard.BIAS


def emits(driver: object) -> bool:
    """Tell whether an instrument, or a class of them, has light to switch off."""
    return callable(getattr(driver, "set_emission", None))
