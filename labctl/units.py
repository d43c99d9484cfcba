"""Conversions between SI and what people and data sheets write: dB, dBm, nm."""

from __future__ import annotations

import math

# Exact by definition since 2019 (SI brochure, 9th edition).
PLANCK_J_S = 6.62607015e-34
SPEED_OF_LIGHT_M_S = 299_792_458.0
ELEMENTARY_CHARGE_C = 1.602176634e-19
# Relative change of a power per dB, for small changes: d(10 lg x) = (10/ln 10) dx/x.
PER_DB = math.log(10.0) / 10.0


def db_to_ratio(value_db: float) -> float:
    """Return the power ratio of a gain in dB; -3.01 dB gives 0.5.

    >>> round(db_to_ratio(-3.0), 4)
    0.5012
    """
    return float(10.0 ** (value_db / 10.0))


def ratio_to_db(ratio: float) -> float:
    """Return a positive power ratio in dB; 0 gives -inf.

    >>> ratio_to_db(100.0), ratio_to_db(0.0)
    (20.0, -inf)
    """
    return 10.0 * math.log10(ratio) if ratio > 0.0 else -math.inf


def dbm_to_w(power_dbm: float) -> float:
    """Return a power in W from dBm; 0 dBm is 1 mW.

    >>> dbm_to_w(10.0)
    0.01
    """
    return 1e-3 * db_to_ratio(power_dbm)


def w_to_dbm(power_w: float) -> float:
    """Return a power in dBm from W; 0 W gives -inf.

    >>> w_to_dbm(0.001)
    0.0
    """
    return ratio_to_db(power_w / 1e-3)


def frequency_to_wavelength_m(frequency_hz: float) -> float:
    """Return the vacuum wavelength in m of an optical frequency in Hz.

    >>> round(1e9 * frequency_to_wavelength_m(193.4e12), 3)
    1550.116
    """
    return SPEED_OF_LIGHT_M_S / frequency_hz


def wavelength_to_frequency_hz(wavelength_m: float) -> float:
    """Return the optical frequency in Hz of a vacuum wavelength in m.

    >>> round(1e-12 * wavelength_to_frequency_hz(1550e-9), 3)
    193.414
    """
    return SPEED_OF_LIGHT_M_S / wavelength_m


def photon_energy_j(frequency_hz: float) -> float:
    """Return the energy in J of one photon of the frequency in Hz.

    >>> f"{photon_energy_j(193.4e12):.4g}"
    '1.281e-19'
    """
    return PLANCK_J_S * frequency_hz
