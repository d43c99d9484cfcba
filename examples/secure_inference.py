"""Classify MNIST images over the instruments and say what leaked and what the light proves.

    python examples/secure_inference.py --simulate
    python examples/secure_inference.py my_station.toml --store my-records --images 5

What is stale of the station's calibration is measured first. Ctrl-C leaves the instruments safe
and the run file readable.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from labctl.data import shipped_lab_path
from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import Network, load_network
from labctl.data.run_file import read_run
from labctl.errors import LabctlError
from labctl.inference import LinkLevel, Report, Request, Stale, run_inference
from labctl.protocols.leakage import WEIGHTS_PER_MODE, Assumptions, Trust, weights_bits_per_mode
from labctl.protocols.receiver import Homodyne
from labctl.protocols.server import Server
from labctl.protocols.settings import Sampling, VerificationSettings

IDEAL = Homodyne(
    1.0, 0.0
)  # of a link at mode level; here the station's calibration takes its place
TRUSTS = {
    "untrusted": Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
    "trusted": Assumptions(Trust.TRUSTED, Trust.TRUSTED),
}


def proven_bits(report: Report, network: Network, assumptions: Assumptions) -> float:
    """Return the bound on the leakage in bit per real weight that the returned light proves.

    At the confidence bounds of transmittance and excess noise, Holevo bound of protocols/leakage.
    """
    settings, verdict = report.settings, report.verification
    transmittance, excess_noise = verdict.transmittance_lower, verdict.excess_noise_upper
    if not transmittance or excess_noise is None:
        return float("inf")
    shapes = Server(network, settings.mean_photons, settings.block_modes).shapes
    block = max(settings.block_of(shape.modes) for shape in shapes)
    bits = weights_bits_per_mode(
        mean_photons=settings.mean_photons,
        transmittance=min(transmittance, 1.0),
        excess_noise=excess_noise,
        technical_noise=settings.technical_noise,
        assumptions=assumptions,
        client_transmittance=settings.rotation.transmittance(block),
    )
    return bits / WEIGHTS_PER_MODE


def show(report: Report, network: Network) -> None:
    """Print what was found, with its uncertainty and what it rests on."""
    run, verdict = read_run(report.run_file), report.verification
    for number, (label, found) in enumerate(zip(run.labels, run.predictions, strict=True)):
        print(f"image {number:<6} class {found}, its label says {label}")
    print(f"accuracy     {report.accuracy:.1%} of {report.images}")
    print(f"μ            {report.settings.mean_photons:g} photons a mode")
    print(f"G            {report.settings.receiver.gain:g}")
    print(f"F            {report.signal_to_noise:.3g}, signal over noise of one inner product")
    chance = verdict.failure_probability
    print(
        f"T            {verdict.transmittance:.4f}, truth above {verdict.transmittance_lower:.4f}\n"
        f"ε            {verdict.excess_noise:.5f} ± {verdict.excess_noise_standard_error:.5f} SNU, "
        f"truth below {verdict.excess_noise_upper:.5f}; honest use: "
        f"{verdict.excess_noise_expected:.5f}\n"
        f"             ({verdict.samples} returned samples; bounds fail with {chance:g})"
    )
    for name, assumptions in TRUSTS.items():
        bits = proven_bits(report, network, assumptions)
        print(f"leakage      at most {bits:.4g} bit per real weight, loss and noise {name}")
    accepted = {True: "accepted", False: "REJECTED", None: "not verified"}[verdict.accepted]
    print(f"verdict      {accepted}: {verdict.reason}")
    known = report.calibration or {"records": {}, "doubts": {}, "values": {}}
    for name in ("server.transmittance", "server.excess_noise", "server.efficiency"):
        if name in known["values"]:
            value, error = (known["values"][name][key] for key in ("value", "standard_uncertainty"))
            print(f"calibrated   {name} = {value:.4f} ± {error:.4f}")
    for routine, identifier in known["records"].items():
        print(f"rests on     {routine:<20} {identifier}")
    for routine, doubt in known["doubts"].items():
        print(f"in doubt     {routine:<20} {doubt}")
    print(f"run file     {report.run_file}")


def main() -> None:
    """Calibrate what is stale, classify, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("station", nargs="?", type=Path, help="station file of real instruments")
    parser.add_argument("--simulate", action="store_true", help="the simulated laboratory instead")
    parser.add_argument("--store", type=Path, default=Path("labctl-calibration"))
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
    request = Request(
        network=network,
        images=LabelledImages(
            available.images[: options.images], available.labels[: options.images]
        ),
        link=LinkLevel.BENCH,
        station=shipped_lab_path() if options.simulate else options.station,
        mean_photons=options.mu,
        gain=options.gain,
        assumptions=TRUSTS["untrusted"],
        sampling=Sampling.ALL,
        verification=VerificationSettings(),
        calibrations=options.store,
        stale=Stale.CALIBRATE,
        effort=options.effort,
        runs=options.runs,
        seed=0,
        # What a link at mode level would be told; of a bench, calibration says it.
        emission_factor=1.0,
        client=IDEAL,
        verifier=IDEAL,
        loss_db=0.0,
        technical_noise=0.0,
    )
    show(
        run_inference(request, on_step=lambda what: print(f"  · {what}", file=sys.stderr)), network
    )


if __name__ == "__main__":
    try:
        main()
    except (LabctlError, OSError, KeyboardInterrupt) as stop:
        sys.exit("; ".join([str(stop) or "interrupted", *getattr(stop, "__notes__", [])]))
