"""Watch a calibrated station; recalibrate what a statistic shows to have drifted.

    python examples/drift_watch.py --simulate
    python examples/drift_watch.py my_station.toml --interval 300 --duration 28800

The modulator is held, not locked, at the voltages of its calibration, as where a lock's dither
would disturb the data. Every interval two statistics are compared with what they should be:

* Light that leaks through the undriven modulator, on the monitor. Children that have drifted by d_I
  and d_Q (rad) leak P_open (sin^2 d_I + sin^2 d_Q), P_open being what one open child passes. The
  band ends where root(d_I^2 + d_Q^2) is the tolerated drift. Watches bias_points; nearly blind to
  the parent, which has only what leaks to turn against each other, and to light that is gone.
* Noise of the server's receiver with the shutter closed, over that of its record: whether the light
  is what it was. The ratio of two variances of Gaussian noise follows Fisher's F, which gives the
  band. Watches shot_noise.

A statistic that leaves its band though nothing has drifted (leak: not beyond the tolerance) is a
false alarm: `--false-alarm-probability` is its probability per look, half of it for each statistic.

Every look is a line of the CSV file at once. Ctrl-C ends the watch early: instruments are left
safe, summary and figure are of what there is.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from scipy import stats

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.calibrator import Calibrator
from labctl.calibration.catalogue import ROUTINES
from labctl.calibration.names import Party
from labctl.calibration.spectrum import pooled_variance
from labctl.calibration.store import Store
from labctl.data import shipped_lab_path
from labctl.drawing import new_figure, write_png
from labctl.dsp.matched_filter import read_slots
from labctl.errors import LabctlError, SettingError
from labctl.safety import interruptible
from labctl.station import Station
from labctl.station.equipment import equipment_of

READINGS, REFERENCE_READINGS = 16, 64
NOISE_SLOTS = 20_000
SERVER: Party = "server"
IN_BAND, LEFT_BAND, RECALIBRATED = "in band", "left band", "recalibrated"


@dataclass(frozen=True)
class Look:
    """One line of the watch; `low` and `high` are the band's ends, in the unit of the value."""

    time_s: float
    statistic: str
    value: float
    low: float
    high: float
    event: str


class LeakedLight:
    """Power in W on the monitor, nothing driven, against that just after the biases were set."""

    name, routine = "leaked_power_w", "bias_points"

    def __init__(self, bench: CalibrationBench, tolerance_rad: float, chance: float) -> None:
        self._bench = bench
        self._tolerance_rad, self._chance = tolerance_rad, chance

    def calibrated(self) -> None:
        """Hold the biases where the newest record wants them and take the reference there."""
        server = self._bench.equipment.server
        self._bench.light_on()
        server.bias_q.hold_voltage(self._wanted_v("q"))
        server.bias_parent.hold_voltage(self._wanted_v("parent"))
        dark_v, half_wave_v = self._wanted_v("i"), self._known(names.BIAS_V_PI_V.of("i"))
        server.bias_i.hold_voltage(dark_v - math.copysign(half_wave_v, dark_v))
        open_w = self._bench.mean_power(server.monitor, READINGS).power_w
        server.bias_i.hold_voltage(dark_v)
        reference = self._bench.mean_power(server.monitor, REFERENCE_READINGS)
        # Of a single reading; Student's t counts that it is an estimate.
        scatter_w = reference.standard_error_w * math.sqrt(REFERENCE_READINGS)
        error_w = scatter_w * math.sqrt(1.0 / READINGS + 1.0 / REFERENCE_READINGS)
        reach_w = float(stats.t.isf(self._chance, REFERENCE_READINGS - 1)) * error_w
        drifted_w = (open_w - reference.power_w) * math.sin(self._tolerance_rad) ** 2
        self._high_w = reference.power_w + drifted_w + reach_w

    def look(self) -> tuple[float, float, float]:
        """Return value and band; less light than the reference's is no sign of drift."""
        self._bench.light_on()
        power_w = self._bench.mean_power(self._bench.equipment.server.monitor, READINGS).power_w
        return power_w, -math.inf, self._high_w

    def _wanted_v(self, part: names.Electrode) -> float:
        """Return the voltage at which a lock would settle, by the record."""
        point = names.BIAS_QUADRATURE_V if part == "parent" else names.BIAS_NULL_V
        v_rad = 2.0 * self._known(names.BIAS_V_PI_V.of(part)) / math.pi
        return self._known(point.of(part)) + v_rad * self._known(names.LOCK_OFFSET_RAD.of(part))

    def _known(self, name: names.Name) -> float:
        return self._bench.knowledge.quantity(name).value


class ShotNoise:
    """Variance of the server's noise, shutter closed, over that of the shot-noise record."""

    name, routine = "shot_noise_ratio", "shot_noise"

    def __init__(self, bench: CalibrationBench, chance: float) -> None:
        self._bench, self._chance = bench, chance

    def calibrated(self) -> None:
        """Take the record's variance as reference."""
        known = self._bench.knowledge.quantity
        self._variance_v2 = known(names.BLOCKED_VARIANCE_V2.of("server")).value
        self._samples = known(names.BLOCKED_SAMPLES.of("server")).value
        self._range_v = known(names.NOISE_RANGE_V.of("server")).value

    def look(self) -> tuple[float, float, float]:
        """Return value and band, both variances being known from finite samples."""
        bench, server = self._bench, self._bench.equipment.server
        layout = bench.sender.layout(rows=1, modes=1)
        bench.load("DARK", layout, np.zeros(layout.slots, np.complex64))
        bench.recorders[SERVER].range_v = self._range_v
        server.shutter.set(server.constants.shutter_closed_v)
        trace = bench.record([SERVER], (NOISE_SLOTS + 1) / layout.symbol_rate_hz)[SERVER]
        server.shutter.set(0.0)
        noise = pooled_variance([read_slots(trace, layout, trace.start_s, 0, NOISE_SLOTS)])
        spread = stats.f(noise.samples - 1.0, self._samples - 1.0)
        low, high = spread.ppf(self._chance / 2.0), spread.isf(self._chance / 2.0)
        return noise.variance / self._variance_v2, float(low), float(high)


Statistic = LeakedLight | ShotNoise


def watch(
    calibrator: Calibrator,
    statistics: Sequence[Statistic],
    interval_s: float,
    duration_s: float,
    check: Callable[[], None],
) -> Iterator[Look]:
    """Look at every statistic each interval; recalibrate what left its band, and look again."""
    clock = calibrator.bench.equipment.clock
    start_s = clock.now_s()

    def look(statistic: Statistic, event: str = "") -> Look:
        check()
        value, low, high = statistic.look()
        state = IN_BAND if low <= value <= high else LEFT_BAND
        return Look(clock.now_s() - start_s, statistic.name, value, low, high, event or state)

    for number in range(1, math.floor(duration_s / interval_s + 1e-9) + 1):
        clock.sleep(max(start_s + number * interval_s - clock.now_s(), 0.0))
        for statistic in statistics:
            seen = look(statistic)
            yield seen
            if seen.event == LEFT_BAND:
                recalibrate(calibrator, statistics, [statistic.routine])
                yield look(statistic, RECALIBRATED)


def recalibrate(
    calibrator: Calibrator, statistics: Sequence[Statistic], routines: Sequence[str]
) -> None:
    """Run routines, then set biases and references by what is known now."""
    for record in calibrator.steps(routines):
        print(f"         {record.routine}: record {record.id}")
    for statistic in statistics:
        statistic.calibrated()


def summarise(looks: Sequence[Look], chance: float) -> None:
    """Print how often each statistic left its band, beside what chance alone would do."""
    for name in sorted({look.statistic for look in looks}):
        mine = [look for look in looks if look.statistic == name and look.event != RECALIBRATED]
        left = sum(look.event == LEFT_BAND for look in mine)
        print(
            f"{name}: {len(mine)} looks, left its band {left} times; "
            f"by chance alone {chance / 2.0 * len(mine):.2g} times are expected at most"
        )


def draw(looks: Sequence[Look], path: Path) -> None:
    """Write a figure of the watch: each statistic with its band, and what was recalibrated."""
    figure = new_figure(9.0, 6.0)
    panels = figure.subplots(2, 1, sharex=True)
    about = (
        (LeakedLight.name, 1e9, "leaked light on the monitor / nW"),
        (ShotNoise.name, 1.0, "noise of the server, over its record"),
    )
    for axes, (name, scale, label) in zip(panels, about, strict=True):
        mine = [look for look in looks if look.statistic == name]
        hours = np.array([look.time_s for look in mine]) / 3600.0
        value, low, high = (
            scale * np.array([getattr(look, field) for look in mine])
            for field in ("value", "low", "high")
        )
        bottom = np.where(np.isfinite(low), low, 0.0)
        axes.fill_between(hours, bottom, high, step="post", color="C0", alpha=0.15, label="band")
        axes.plot(hours, value, ".-", color="C0", linewidth=0.8, label="looks")
        out = np.array([look.event == LEFT_BAND for look in mine], bool)
        axes.plot(hours[out], value[out], "o", color="C3", label="left its band")
        for number, hour in enumerate(hours[[look.event == RECALIBRATED for look in mine]]):
            axes.axvline(hour, color="C2", linestyle="--", label="" if number else "recalibrated")
        axes.set_ylabel(label)
        axes.legend(loc="upper right", fontsize="small", ncols=4)
        axes.margins(y=0.2)
    panels[-1].set_xlabel("time by the instruments' clock / h")
    write_png(path, figure, dpi=120)


def parsed() -> argparse.Namespace:
    """Return the options, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("station", nargs="?", type=Path, help="station file of real instruments")
    parser.add_argument("--simulate", action="store_true", help="the simulated laboratory instead")
    parser.add_argument("--calibrations", type=Path, default=Path("labctl-calibration"))
    parser.add_argument("--effort", type=float, default=0.2, help="1 is a full calibration")
    parser.add_argument("--interval", type=float, default=600.0, help="s between looks")
    parser.add_argument("--duration", type=float, default=86400.0, help="s in all")
    parser.add_argument("--tolerance", type=float, default=0.1, help="bias drift in rad")
    parser.add_argument(
        "--false-alarm-probability", type=float, default=1e-3, help="probability per look"
    )
    parser.add_argument("--out", type=Path, default=Path("drift-watch.csv"), help="and .png")
    options = parser.parse_intermixed_args()
    if options.simulate == (options.station is not None):
        parser.error("give a station file, or --simulate")
    if options.out.suffix != ".csv" or options.out.exists() or not options.out.parent.is_dir():
        raise SettingError("out", str(options.out), "a new .csv file in a folder that exists")
    if not 0.0 < options.interval <= options.duration < math.inf:
        raise SettingError("interval", options.interval, "above 0 s, at most the duration")
    if not 0.0 < options.tolerance < 0.5:
        raise SettingError("tolerance", options.tolerance, "above 0, below 0.5 rad")
    if not 0.0 < options.false_alarm_probability < 1.0:
        raise SettingError(
            "false-alarm-probability", options.false_alarm_probability, "above 0, below 1"
        )
    return options


def main() -> None:
    """Calibrate what is stale, watch, sum up."""
    options = parsed()
    station = Station.read(shipped_lab_path() if options.simulate else options.station)
    half = options.false_alarm_probability / 2.0
    looks: list[Look] = []
    try:
        with (
            interruptible() as check,
            station,
            options.out.open("x", newline="", encoding="utf-8") as file,
        ):
            calibrator = Calibrator(
                station,
                equipment_of(station),
                Store(options.calibrations),
                ROUTINES,
                effort=options.effort,
                on_step=lambda step: check(),
            )
            bench = calibrator.bench
            statistics = (LeakedLight(bench, options.tolerance, half), ShotNoise(bench, half))
            rows = csv.writer(file)
            rows.writerow(field.name for field in fields(Look))
            print("calibrating: bias points are taken again, shot noise if it is stale")
            recalibrate(calibrator, (), ["bias_points"])
            for record in calibrator.stale_steps(["shot_noise"]):
                print(f"         {record.routine}: record {record.id}")
            recalibrate(calibrator, statistics, [])
            for look in watch(calibrator, statistics, options.interval, options.duration, check):
                looks.append(look)
                rows.writerow(astuple(look))
                file.flush()
                if look.event != IN_BAND:
                    hours = look.time_s / 3600.0
                    print(f"{hours:6.2f} h {look.statistic} {look.event}: {look.value:.4g}")
    finally:
        if looks:
            summarise(looks, options.false_alarm_probability)
            draw(looks, options.out.with_suffix(".png"))
            print(f"looks: {options.out}, figure: {options.out.with_suffix('.png')}")


if __name__ == "__main__":
    try:
        main()
    except (LabctlError, OSError, KeyboardInterrupt) as stop:
        sys.exit("; ".join([str(stop) or "interrupted", *getattr(stop, "__notes__", [])]))
