"""The parts of a Thorlabs MX10B that commands act on: laser, modulator bias, attenuator, lamp.

Source: docs/wire/thorlabs_mx10b.md, sections Laser, Bias, Attenuator and Assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from labctl.clock import Clock
from labctl.instruments.simulated.ports import AttenuatorPort, BiasMode, BiasPort, LaserPort
from labctl.units import frequency_to_wavelength_m, ratio_to_db, w_to_dbm

# Assumed; settled is within 0.1 dB (docs/wire/thorlabs_mx10b.md).
DARK_DBM = -100.0
SETTLED_DB = 0.1
BIAS_MODES = {
    0: BiasMode.OFF,
    1: BiasMode.PEAK,
    2: BiasMode.NULL,
    3: BiasMode.QUADRATURE_PLUS,
    4: BiasMode.QUADRATURE_MINUS,
    5: BiasMode.QUADRATURE_PLUS,
    6: BiasMode.QUADRATURE_MINUS,
    7: BiasMode.MANUAL,
}


class PanelError(Exception):
    """The reply is `Err: ` and this."""


class Entry(NamedTuple):
    """One header: what it does with a value, when asked, and as a bare command."""

    put: Callable[[str], None] | None = None
    ask: Callable[[], str] | None = None
    do: Callable[[], None] | None = None


def real(text: str, low: float, high: float) -> float:
    """Read a number; raises PanelError as the manual words it."""
    if not text:
        raise PanelError("Parameter error")
    try:
        value = float(text)
    except ValueError as error:
        raise PanelError("Numeric data error") from error
    if not low <= value <= high:
        raise PanelError("Data out of range")
    return value


def whole(text: str, low: int, high: int) -> int:
    """Read a whole number; raises PanelError as the manual words it."""
    value = real(text, low, high)
    if value != int(value):
        raise PanelError("Data type error")
    return int(value)


def choice(text: str, last: int) -> int:
    """Read a whole number, 0 to `last`; raises PanelError."""
    try:
        return whole(text, 0, last)
    except PanelError as trouble:
        if str(trouble) == "Data out of range":
            raise PanelError("Illegal parameter value") from trouble
        raise


def dbm_text(power_w: float) -> str:
    """Write a tap reading in dBm."""
    return f"{max(w_to_dbm(power_w), DARK_DBM):.3f}"


def milliwatt_text(power_w: float) -> str:
    """Write a tap reading in mW."""
    return f"{power_w * 1e3:.6g}"


class Numbers:
    """Settings that are only kept and read back, each a whole number in a range."""

    def __init__(self, ranges: dict[str, tuple[int, int, int]]) -> None:
        self._ranges = ranges
        self.values = {header: default for header, (_, _, default) in ranges.items()}

    def entry(self, header: str, then: Callable[[], None] = lambda: None) -> Entry:
        """Return the entry of one setting; `then` runs after it was set."""
        low, high, _ = self._ranges[header]

        def put(text: str) -> None:
            self.values[header] = whole(text, low, high)
            then()

        return Entry(put, lambda: str(self.values[header]))


class LaserSection:
    """`LAS`: a laser of fixed power on a channel grid, with fine tuning in MHz."""

    def __init__(
        self,
        clock: Clock,
        port: LaserPort,
        *,
        power_w: float,
        first_channel_hz: float,
        spacing_hz: float,
        channels: int,
        lock_s: float,
    ) -> None:
        self._clock, self._port, self._power_w = clock, port, power_w
        self._first_hz, self._spacing_hz, self._lock_s = first_channel_hz, spacing_hz, lock_s
        self._numbers = Numbers(
            {"CHAN": (1, channels, 1), "FINE": (-30000, 30000, 0), "D": (0, 1, 1)}
        )
        self._on = False
        self._awake = True
        self._locked_s = clock.now_s()
        self.apply()

    def table(self) -> dict[str, Entry]:
        """Return the commands of this section."""
        return {
            "LASer:POWer": Entry(self._put_power, lambda: str(int(self._on))),
            "LASer:SETpoint": Entry(ask=lambda: str(int(self._is_locked()))),
            "LASer:CHANnel": self._numbers.entry("CHAN", self.apply),
            "LASer:FINE": self._numbers.entry("FINE", self.apply),
            "LASer:Dither": self._numbers.entry("D"),
            "LASer:FREQuency": Entry(ask=lambda: f"{self._frequency_hz() / 1e9:.3f}"),
            "LASer:FREQ_NOMinal": Entry(ask=lambda: f"{self._channel_hz() / 1e9:.9g}"),
            "LASer:WAVE_NOMinal": Entry(ask=self._wavelength),
            "LASer:OOP": Entry(ask=lambda: dbm_text(self._port.emitted_power_w())),
            "LASer:TAP:DBM": Entry(ask=lambda: dbm_text(self._port.emitted_power_w())),
            "LASer:TAP:MW": Entry(ask=lambda: milliwatt_text(self._port.emitted_power_w())),
            "LASer:SELect": Entry(_select_band, lambda: "CBAND"),
            **{f"LASer:SELect:{band}": _band_entry(band) for band in ("CBAND", "LBAND")},
        }

    def wake(self, awake: bool) -> None:
        """Fall asleep (dark) or wake up with the settings kept."""
        self._awake = awake
        self.apply()

    def apply(self) -> None:
        """Put the settings on the head."""
        self._locked_s = self._clock.now_s() + self._lock_s
        emitting = self._on and self._awake
        self._port.set_emission(emitting, self._power_w, self._frequency_hz())

    def _put_power(self, text: str) -> None:
        self._on = choice(text, 1) == 1
        self.apply()

    def _is_locked(self) -> bool:
        return self._on and self._awake and self._clock.now_s() >= self._locked_s

    def _channel_hz(self) -> float:
        return self._first_hz + (self._numbers.values["CHAN"] - 1) * self._spacing_hz

    def _frequency_hz(self) -> float:
        return self._channel_hz() + self._numbers.values["FINE"] * 1e6

    def _wavelength(self) -> str:
        return f"{frequency_to_wavelength_m(self._channel_hz()) * 1e9:.4f}"


def _select_band(band: str) -> None:
    """Choose the laser of a band, there being one; raises PanelError for another band."""
    if band.upper() in ("LBAND", "1310"):
        raise PanelError("Feature not present")
    if band.upper() != "CBAND":
        raise PanelError("Illegal parameter value" if band else "Parameter error")


def _band_entry(band: str) -> Entry:
    return Entry(do=lambda: _select_band(band))


class BiasSection:
    """`MZM`: the modulator-bias controller."""

    def __init__(self, port: BiasPort) -> None:
        self._port = port
        self._mode = 0
        self._awake = True
        self._calibrating = False
        self._numbers = Numbers(
            {
                "HOLD:R": (250, 10000, 250),
                "HOLD:V": (-10000, 10000, 0),
                "D:AMPL": (20, 2000, 600),
                "D:FREQ": (1000, 10000, 3000),
            }
        )
        self.apply()

    def table(self) -> dict[str, Entry]:
        """Return the commands of this section."""
        return {
            "MZM:MODE": Entry(self._put_mode, lambda: str(self._mode)),
            "MZM:HOLD:Ratio": self._numbers.entry("HOLD:R"),
            "MZM:HOLD:Voltage": self._numbers.entry("HOLD:V", self._move),
            "MZM:Dither:AMPLitude": self._numbers.entry("D:AMPL"),
            "MZM:Dither:FREQuency": self._numbers.entry("D:FREQ"),
            "MZM:Voltage": Entry(ask=lambda: f"{self._port.voltage_v():.4f}"),
            "MZM:SETpoint": Entry(ask=lambda: str(int(self._port.settled()))),
            "MZM:CALibrating": Entry(ask=self._ask_calibrating),
            "MZM:RESET": Entry(do=self._recalibrate),
            "MZM:TAP:DBM": Entry(ask=lambda: dbm_text(self._port.tap_power_w())),
            "MZM:TAP:MW": Entry(ask=lambda: milliwatt_text(self._port.tap_power_w())),
        }

    def wake(self, awake: bool) -> None:
        """Fall asleep (off) or wake up with the settings kept."""
        self._awake = awake
        self.apply()

    def apply(self) -> None:
        """Put mode and voltage on the electrode."""
        mode = BIAS_MODES[self._mode] if self._awake else BiasMode.OFF
        self._port.set_bias(mode, self._numbers.values["HOLD:V"] / 1e3)

    def _put_mode(self, text: str) -> None:
        mode = choice(text, 9)
        if mode not in BIAS_MODES:
            raise PanelError("Illegal parameter value")
        self._mode = mode
        self.apply()

    def _move(self) -> None:
        if BIAS_MODES[self._mode] is BiasMode.MANUAL:
            self.apply()

    def _recalibrate(self) -> None:
        self._calibrating = True
        self.apply()

    def _ask_calibrating(self) -> str:
        self._calibrating = self._calibrating and not self._port.settled()
        return str(int(self._calibrating))


class AttenuatorSection:
    """`VOA`: constant attenuation, or constant output power."""

    def __init__(self, port: AttenuatorPort, limits_db: tuple[float, float]) -> None:
        self._port, self._limits_db = port, limits_db
        self._on = False
        self._power_mode = False
        self._attenuation_db = limits_db[0]
        self._target_dbm = 0.0
        self._applied_db = 0.0
        self._awake = True
        self._regulate()

    def table(self) -> dict[str, Entry]:
        """Return the commands of this section."""
        return {
            "VOA:POWer": Entry(self._put_power, lambda: str(int(self._on))),
            "VOA:MODE": Entry(self._put_mode, lambda: str(int(self._power_mode))),
            "VOA:ATTen": Entry(self._put_attenuation, lambda: f"{self._attenuation_db:.3f}"),
            "VOA:OUTput:MW": Entry(self._put_milliwatts, self._ask_milliwatts),
            "VOA:OUTput:DBM": Entry(self._put_dbm, lambda: f"{self._target_dbm:.3f}"),
            "VOA:MEASured": Entry(ask=lambda: f"{self._regulate():.3f}"),
            "VOA:ERRor": Entry(ask=lambda: f"{self._error_db():.3f}"),
            "VOA:SETpoint": Entry(ask=lambda: str(int(abs(self._error_db()) <= SETTLED_DB))),
            "VOA:TAP:DBM": Entry(ask=lambda: dbm_text(self._tap_w())),
            "VOA:TAP:MW": Entry(ask=lambda: milliwatt_text(self._tap_w())),
        }

    def wake(self, awake: bool) -> None:
        """Fall asleep (minimum attenuation) or wake up with the settings kept."""
        self._awake = awake
        self._regulate()

    def _regulate(self) -> float:
        """Set the attenuation that the mode asks for now; returns it in dB."""
        if not (self._on and self._awake):
            wanted_db = 0.0
        elif self._power_mode:
            excess_w = self._port.output_power_w() / 10.0 ** (self._target_dbm / 10.0 - 3.0)
            wanted_db = self._applied_db + ratio_to_db(excess_w)
        else:
            wanted_db = self._attenuation_db
        self._applied_db = min(max(wanted_db, 0.0), self._limits_db[1])
        self._port.set_attenuation(self._applied_db)
        return self._applied_db

    def _error_db(self) -> float:
        """Return how far the output is above what was asked for, in dB."""
        applied_db = self._regulate()
        if self._power_mode:
            return max(w_to_dbm(self._port.output_power_w()), DARK_DBM) - self._target_dbm
        return self._attenuation_db - applied_db

    def _tap_w(self) -> float:
        self._regulate()
        return self._port.output_power_w()

    def _put_power(self, text: str) -> None:
        self._on = choice(text, 1) == 1
        self._regulate()

    def _put_mode(self, text: str) -> None:
        self._power_mode = choice(text, 1) == 1
        self._regulate()

    def _put_attenuation(self, text: str) -> None:
        self._attenuation_db = real(text, *self._limits_db)
        self._regulate()

    def _put_milliwatts(self, text: str) -> None:
        self._target_dbm = w_to_dbm(real(text, 0.01, 100.0) / 1e3)
        self._regulate()

    def _ask_milliwatts(self) -> str:
        return f"{10.0 ** (self._target_dbm / 10.0):.6g}"

    def _put_dbm(self, text: str) -> None:
        self._target_dbm = real(text, -20.0, 20.0)
        self._regulate()


class LampSection:
    """`RGB`: the lamp in the case, whose brightness is kept and read back."""

    def __init__(self) -> None:
        self._numbers = Numbers(
            {"POWer": (0, 2, 0)} | dict.fromkeys(("RED", "GREEN", "BLUE", "WHITE"), (0, 100, 0))
        )

    def table(self) -> dict[str, Entry]:
        """Return the commands of this section."""
        return {f"RGB:{header}": self._numbers.entry(header) for header in self._numbers.values}

    def wake(self, awake: bool) -> None:
        """Fall asleep or wake up: the settings are kept."""
