"""Classify MNIST images over the instruments and say what leaked and what the light proves.

    python examples/secure_inference.py --simulate
    python examples/secure_inference.py my_station.toml --calibrations my-records --images 5

What is stale of the station's calibration is measured first. Ctrl-C leaves the instruments safe
and the run file readable.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from labctl.calibration import names
from labctl.data import shipped_lab_path
from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import load_network
from labctl.data.run_file import read_run
from labctl.errors import LabctlError
from labctl.protocols.settings import Light
from labctl.run.inference import run_inference
from labctl.run.report import Report
from labctl.run.request import BenchRun


def show(report: Report) -> None:
    """Print what was found, with its uncertainty and what it rests on."""
    run, verdict = read_run(report.run_files.client), report.verification
    for number, (label, found) in enumerate(zip(run.labels, run.predictions, strict=True)):
        print(f"image {number:<7} class {found}, its label says {label}")
    print(f"accuracy      {report.accuracy:.1%} of {report.images}")
    print(f"F             {report.signal_to_noise:.3g}, signal over noise of one inner product")
    assert report.parameters is not None
    for name, quantity in report.parameters.known().items():
        low, high = quantity.interval()
        print(f"{name:<14}{quantity}, 95 % interval {low:.4g} to {high:.4g}")
    chance = verdict.failure_probability
    print(
        f"bounds        T above {verdict.transmittance_lower:.4f}, ε below "
        f"{verdict.excess_noise_upper:.5f} SNU (honest use: {verdict.excess_noise_expected:.5f}); "
        f"{verdict.samples} returned samples, fail with {chance:g}"
    )
    for each in report.weights_under_trust:
        print(
            f"leakage       {each.bits_at_estimate:.4g}, at most {each.bits_upper:.4g} bit per "
            f"real weight (prior-free): loss {each.assumptions.loss}, "
            f"technical noise {each.assumptions.technical_noise}"
        )
    accepted = {True: "accepted", False: "REJECTED", None: "not verified"}[verdict.accepted]
    print(f"verdict       {accepted}: {verdict.reason}")
    known = report.calibration or {"records": {}, "doubts": {}, "values": {}}
    for name in (names.TRANSMITTANCE, names.EXCESS_NOISE, names.EFFICIENCY.of("server")):
        if name in known["values"]:
            value, error = (known["values"][name][key] for key in ("value", "standard_uncertainty"))
            print(f"calibrated    {name} = {value:.4f} ± {error:.4f}")
    for routine, identifier in known["records"].items():
        print(f"rests on      {routine:<20} {identifier}")
    for routine, doubt in known["doubts"].items():
        print(f"in doubt      {routine:<20} {doubt}")
    for party, path in report.run_files.as_json().items():
        print(f"run file      {path} ({party}'s)")


def main() -> None:
    """Calibrate what is stale, classify, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("station", nargs="?", type=Path, help="station file of real instruments")
    parser.add_argument("--simulate", action="store_true", help="the simulated laboratory instead")
    parser.add_argument("--calibrations", type=Path, default=Path("labctl-calibration"))
    parser.add_argument("--effort", type=float, default=1.0, help="1 is a full calibration")
    parser.add_argument("--runs", type=Path, default=Path("labctl-runs"), help="for run files")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--model", default="noise-aware", help="noise-aware, reference, or a file")
    parser.add_argument("--mu", type=float, default=0.57, help="photons per mode")
    parser.add_argument("--gain", type=float, default=1.3, help="of the client's amplifier")
    options = parser.parse_intermixed_args()
    if options.simulate == (options.station is not None):
        parser.error("give a station file, or --simulate")

    network, available = load_network(options.model), load_test_images()
    if not 1 <= options.images <= len(available.labels):
        parser.error(f"--images {options.images}: 1 to {len(available.labels)} there are")
    request = BenchRun(
        network=network,
        images=LabelledImages(
            available.images[: options.images], available.labels[: options.images]
        ),
        runs=options.runs,
        station=shipped_lab_path() if options.simulate else options.station,
        calibrations=options.calibrations,
        light=Light(options.mu),
        gain=options.gain,
        effort=options.effort,
    )
    show(run_inference(request, on_step=lambda what: print(f"  · {what}", file=sys.stderr)))


if __name__ == "__main__":
    try:
        main()
    except (LabctlError, OSError, KeyboardInterrupt) as stop:
        sys.exit("; ".join([str(stop) or "interrupted", *getattr(stop, "__notes__", [])]))
