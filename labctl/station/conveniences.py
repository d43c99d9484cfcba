"""Methods in nm and dBm beside a driver's own in SI units, for what a station hands out.

A method is known by its name and by the name of its parameter: `set_power(on)` switches something,
so nothing in dBm stands beside it. Each calls the guard's method in SI units, whose limits bind it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from labctl.errors import LimitError
from labctl.units import dbm_to_w, frequency_to_wavelength_m, w_to_dbm, wavelength_to_frequency_hz


def conveniences(kind: type) -> dict[str, Callable[..., Any]]:
    """Return by name the methods in nm and dBm that a guard of this class has in addition.

    Only where the class has the one in SI units, with the parameter that says so, and none of the
    same name. A laser's wavelength comes before a power meter's.
    """
    setters: tuple[tuple[str, str, str, Callable[..., Any]], ...] = (
        ("set_power", "power_w", "set_power_dbm", set_power_dbm),
        ("set_frequency", "frequency_hz", "set_wavelength_nm", tune_nm),
        ("set_wavelength", "wavelength_m", "set_wavelength_nm", correct_nm),
    )
    getters: tuple[tuple[str, str, Callable[..., Any]], ...] = (
        ("power_w", "power_dbm", power_dbm),
        ("frequency_hz", "wavelength_nm", tuned_nm),
        ("wavelength_m", "wavelength_nm", corrected_nm),
    )
    found: dict[str, Callable[..., Any]] = {}
    for needed, parameter, name, method in setters:
        if _takes(kind, needed, (parameter,)) and not hasattr(kind, name):
            found.setdefault(name, method)
    for needed, name, method in getters:
        if _takes(kind, needed, ()) and not hasattr(kind, name):
            found.setdefault(name, method)
    return found


def set_power_dbm(self: Any, power_dbm: float) -> None:
    """Set the power in dBm; raises LimitError."""
    self.set_power(_converted(self, "power_dbm", power_dbm, dbm_to_w, "a power in dBm"))


def power_dbm(self: Any) -> float:
    """Return the power in dBm; -inf for no light, NaN for a reading below darkness."""
    power_w = self.power_w()
    return w_to_dbm(power_w) if power_w >= 0.0 else math.nan


def tune_nm(self: Any, wavelength_nm: float) -> None:
    """Tune to a vacuum wavelength in nm; raises LimitError."""
    self.set_frequency(_converted(self, "wavelength_nm", wavelength_nm, _frequency_hz, _ABOVE_0))


def tuned_nm(self: Any) -> float:
    """Return the vacuum wavelength in nm; inf for a reading of 0 Hz."""
    frequency_hz = float(self.frequency_hz())
    return 1e9 * frequency_to_wavelength_m(frequency_hz) if frequency_hz else math.inf


def correct_nm(self: Any, wavelength_nm: float) -> None:
    """Set the wavelength in nm for which the responsivity is corrected; raises LimitError."""
    self.set_wavelength(_converted(self, "wavelength_nm", wavelength_nm, _in_m, _ABOVE_0))


def corrected_nm(self: Any) -> float:
    """Return the wavelength in nm for which the responsivity is corrected."""
    return 1e9 * float(self.wavelength_m())


_ABOVE_0 = "a wavelength in nm above 0"


def _in_m(wavelength_nm: float) -> float:
    return wavelength_nm * 1e-9


def _frequency_hz(wavelength_nm: float) -> float:
    return wavelength_to_frequency_hz(_in_m(wavelength_nm))


def _converted(
    guard: Any, name: str, value: float, convert: Callable[[float], float], valid: str
) -> float:
    """Return a value in SI units; raises LimitError for one that has none, such as 0 nm."""
    try:
        return convert(value)
    except (ArithmeticError, TypeError):
        raise LimitError(guard._guarded_limits.instrument, name, value, valid) from None


def _takes(kind: type, method: str, names: tuple[str, ...]) -> bool:
    """Tell whether a class has a method that is called with parameters of these names alone."""
    function = inspect.getattr_static(kind, method, None)
    if not inspect.isfunction(function):
        return False
    parameters = list(inspect.signature(function).parameters.values())[1:]
    needed = [each for each in parameters if each.default is inspect.Parameter.empty]
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(each.name for each in needed if each.kind not in several) == names and all(
        each.kind is not inspect.Parameter.KEYWORD_ONLY for each in needed
    )
