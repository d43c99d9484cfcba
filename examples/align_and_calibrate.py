"""Align a station, calibrate what is stale, and write a report to read and print.

    python examples/align_and_calibrate.py --simulate
    python examples/align_and_calibrate.py lab.toml --calibrations my-records --report today.html

Ctrl-C leaves the instruments safe and keeps every routine that has finished; run it again to go on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.calibrator import Calibrator, utc_now
from labctl.calibration.catalogue import ROUTINES
from labctl.calibration.report import ReportEntry, report_html
from labctl.calibration.store import Store
from labctl.data import shipped_lab_path
from labctl.dsp.dsp import synchronise
from labctl.errors import LabctlError
from labctl.safety import interruptible
from labctl.station import Station
from labctl.station.equipment import equipment_of

ALIGNMENT_DB = 3.0  # of attenuation: bright enough to find a frame in one record
ALIGNMENT_GAIN = 2.0  # of the client's amplifier


def align(bench: CalibrationBench) -> None:
    """Switch the light on, lock the biases and find a frame in both receivers' records."""
    server, client = bench.equipment.server, bench.equipment.client
    bench.light_on()
    leak = bench.mean_power(server.monitor, readings=32)
    nanowatts, error = 1e9 * leak.power_w, 1e9 * leak.standard_error_w
    print(f"monitor, nothing driven  {nanowatts:.2f} ± {error:.2f} nW")
    for name, bias in (("I", server.bias_i), ("Q", server.bias_q), ("parent", server.bias_parent)):
        print(f"bias lock {name:<14} {bias.bias_voltage_v():+.3f} V")

    server.attenuator.set_attenuation(ALIGNMENT_DB)
    client.gain.set((ALIGNMENT_GAIN - 1.0) / client.constants.gain_per_v)
    layout = bench.sender.layout(rows=1, modes=64)
    drawn = bench.draw.uniform(-0.5, 0.5, (layout.rows, 2 * layout.modes)).astype("float32")
    bench.load("ALIGN", layout, layout.server_symbols(drawn, 1.0))
    bench.fit_ranges(("server", "client"), bench.duration_s(layout))
    for party, trace in bench.record(("server", "client"), bench.duration_s(layout)).items():
        found = synchronise(trace, layout, bench.equipment.frame.longest_delay_s)
        delay_us = 1e6 * found.start_s
        print(f"delay to {party:<15} {delay_us:.3f} us, frame found at {found.peak:.0f} sigma")
    client.gain.set(0.0)
    bench.light_on()


def main() -> None:
    """Align, calibrate, print all quantities, write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("station", nargs="?", type=Path, help="station file of real instruments")
    parser.add_argument("--simulate", action="store_true", help="the simulated laboratory instead")
    parser.add_argument("--calibrations", type=Path, default=Path("labctl-calibration"))
    parser.add_argument("--effort", type=float, default=1.0, help="1 is a full calibration")
    parser.add_argument("--report", type=Path, default=Path("calibration.html"))
    options = parser.parse_intermixed_args()
    if options.simulate == (options.station is not None):
        parser.error("give a station file, or --simulate")
    if not options.report.parent.is_dir():
        parser.error(f"--report {options.report}: no such folder")

    station = Station.read(shipped_lab_path() if options.simulate else options.station)
    store = Store(options.calibrations)
    with interruptible() as check, station:

        def step(what: str) -> None:
            check()
            print(f"  · {what}", file=sys.stderr)

        calibrator = Calibrator(
            station, equipment_of(station), store, ROUTINES, effort=options.effort, on_step=step
        )
        align(calibrator.bench)
        print(f"\nto calibrate: {', '.join(calibrator.stale()) or 'nothing, all records apply'}")
        for record in calibrator.stale_steps():
            print(f"\n{record.routine}: record {record.id}")
            for name, row in record.quantities.items():
                print(f"    {name:<36} {row.quantity()}")
            for remark in record.remarks:
                print(f"    {remark}")
        standing = calibrator.standing()

    print(f"\n{'routine':<20} {'record':<18} state")
    for name, judgement in standing.judgements.items():
        kept = standing.records.get(name)
        print(f"{name:<20} {kept.id if kept else 'none':<18} {judgement}")
    entries = [
        ReportEntry(
            station.table.name,
            routine.name,
            routine.title,
            standing.records.get(routine.name),
            standing.judgements[routine.name],
        )
        for routine in ROUTINES
    ]
    options.report.write_text(report_html(store, entries, utc_now()), encoding="utf-8")
    print(f"\nreport: {options.report}")


if __name__ == "__main__":
    try:
        main()
    except (LabctlError, OSError, KeyboardInterrupt) as stop:
        sys.exit("; ".join([str(stop) or "interrupted", *getattr(stop, "__notes__", [])]))
