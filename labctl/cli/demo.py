"""`labctl demo`: the whole product in little more than a minute, on the simulated bench."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from labctl.cli import options, output
from labctl.cli.choices import images_of
from labctl.cli.verdicts import end_if_rejected, reported
from labctl.data import shipped_lab_path
from labctl.data.models import load_network
from labctl.party import Party
from labctl.protocols.disguise import PLAIN
from labctl.protocols.labels.reading import Detection
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.run.inference import run_inference
from labctl.run.report import Report
from labctl.run.request import WORST_CASE, BenchRun, ModeRun
from labctl.station import Station, describe
from labctl.studies.reproduce.accuracy_leakage import Point, Series, accuracy_against_leakage

# The bench takes seconds an image; the verdict at mode level gets enough light of 200.
BENCH_IMAGES = 5
VERIFIED_IMAGES = 200
_ALL = 10_000
# Of the demo's own calibration: a full one takes most of a minute.
_EFFORT = 0.3
_SETTINGS = (("reference", 4.0, 2.0), ("noise-aware", 0.57, 1.3), ("noise-aware", 7.5, 1.02))
_CURVE_GAIN = 1.3
_CURVE_PHOTONS = (0.2, 0.3, 0.45, 0.7, 1.0, 1.5, 2.2, 3.2, 5.0)
_BENCH = Assumptions(loss=Trust.TRUSTED, technical_noise=Trust.UNTRUSTED)


def demo(
    runs: options.Runs = options.DEFAULT_RUNS,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Show the protocol on the simulated bench and on all MNIST test images."""
    bench, late = _on_bench(runs, seed, quiet=json)
    if late is not None:
        if json:
            output.print_json({"bench": bench.as_json(), "mode": [], "figure": None})
        else:
            output.table("On the bench", ["", bench.model], _rows([(bench, bench)]), numeric=True)
        raise late
    reports = [_at_mode_level(*setting, runs, seed) for setting in _SETTINGS]
    with output.progress("accuracy curves", 2 * len(_CURVE_PHOTONS), "points") as advance:
        curves = [_curve(name, seed, advance) for name in ("reference", "noise-aware")]
    started = bench.run_file.stem.removesuffix(f"-{Party.CLIENT}")
    figure = bench.run_file.with_name(started.replace("infer-bench", "demo") + ".png")
    marked = [_point(report) for report, _ in reports]
    accuracy_against_leakage(
        figure,
        curves,
        marked,
        "ours: ideal link, worst Gaussian weights, all loss and noise untrusted; the paper's: "
        f"independent weights; lines: G = {_CURVE_GAIN}; all on the {_ALL} test images",
    )
    if json:
        output.print_json(
            {
                "bench": bench.as_json(),
                "mode": [
                    {**report.as_json(), "verification": verified.as_json()["verification"]}
                    for report, verified in reports
                ],
                "figure": str(figure),
            }
        )
        end_if_rejected(bench, *(verified for _, verified in reports))
        return
    output.table(
        "Private inference on MNIST",
        ["", *(report.model for report, _ in [*reports, (bench, bench)])],
        _rows([*reports, (bench, bench)]),
        numeric=True,
    )
    output.people.print(
        "weights: bit per real weight and query, for an honest client; bound: the most that the "
        f"light returned for {VERIFIED_IMAGES} images (bench: {BENCH_IMAGES}) allows. One "
        "inference cannot certify: the server pools. data: bit per datum to an honest server. "
        "label read: of one image sent once, by homodyne, and by photon counting without "
        "background, where the clone's net gain is off by δ. "
        + "; ".join(WORST_CASE.sentences()[2:])
        + ".",
        style="dim",
    )
    output.facts(
        "Saved",
        {
            "bench run": _files(bench),
            **{f"mode run {index + 1}": _files(run) for index, (run, _) in enumerate(reports)},
            "figure": str(figure),
        },
    )
    end_if_rejected(bench, *(verified for _, verified in reports))


def _files(report: Report) -> str:
    return "\n".join(report.run_files.as_json().values())


def _on_bench(runs: Path, seed: int, *, quiet: bool) -> tuple[Report, BaseException | None]:
    """Return the bench run's report, and what went wrong after it was made."""

    def found(station: Station) -> None:
        if not quiet:
            output.table(
                f"Station {station.table.name}: {len(station.identities)} instruments answered",
                ["instrument", "who", "serial", "roles"],
                _found(station),
            )

    request = BenchRun(
        network=load_network("noise-aware"),
        images=images_of(None, BENCH_IMAGES),
        runs=runs,
        assumptions=_BENCH,
        seed=seed,
        station=shipped_lab_path(),
        calibrations=runs / "calibration",
        effort=_EFFORT,
    )
    with output.progress("bench", BENCH_IMAGES, "images") as advance:
        return reported(request, on_images=advance, on_step=output.say_step, on_station=found)


def _found(station: Station) -> list[list[str]]:
    roles = list(station.table.roles())
    return [
        [
            name,
            f"{who['maker']} {who['model']}",
            who["serial"],
            ", ".join(role for role, instrument in roles if instrument == name),
        ]
        for name, who in describe(station.identities).items()
    ]


def _at_mode_level(
    name: str, mu: float, gain: float, runs: Path, seed: int
) -> tuple[Report, Report]:
    """Return accuracy over all images, and the verdict on some of them with all modes drawn."""
    request = _request(name, mu, gain, _ALL, Sampling.MEASURED, runs, seed)
    with output.progress(f"{name}, μ = {mu:g}, G = {gain:g}", _ALL, "images") as advance:
        report = run_inference(request, on_images=advance)
    checked = _request(name, mu, gain, VERIFIED_IMAGES, Sampling.ALL, runs, seed)
    with output.progress("verification", VERIFIED_IMAGES, "images") as advance:
        return report, run_inference(checked, on_images=advance)


def _request(
    name: str, mu: float, gain: float, images: int, sampling: Sampling, runs: Path, seed: int
) -> ModeRun:
    return ModeRun(
        network=load_network(name),
        images=images_of(None, images),
        runs=runs,
        light=Light(mu),
        receiver=CloneReceiver(gain, 1.0, IDEAL_HOMODYNE),
        sampling=sampling,
        seed=seed,
    )


def _curve(name: str, seed: int, advance: Callable[[int], None]) -> Series:
    network, images = load_network(name), images_of(None, _ALL)
    points = []
    for mu in _CURVE_PHOTONS:
        settings = SessionSettings(
            light=Light(mu, PLAIN),
            channel=Channel(),
            receiver=CloneReceiver(_CURVE_GAIN, 1.0, IDEAL_HOMODYNE),
            verifier=IDEAL_HOMODYNE,
            assumptions=WORST_CASE,
            sampling=Sampling.MEASURED,
            seed=seed,
        )
        session = Session(network, settings, ModeLink(settings))
        correct = sum(
            int((batch.classes == images.labels[batch.first_image :][: len(batch.classes)]).sum())
            for batch in session.run(images.images)
        )
        bits = session.leakage().weights_bits_prior_free
        points.append(Point(name, correct / _ALL, 0.0, bits))
        advance(1)
    return Series(f"{name} network, G = {_CURVE_GAIN}", points)


def _point(report: Report) -> Point:
    error = math.sqrt(report.accuracy * (1.0 - report.accuracy) / report.images)
    mu, gain = report.settings.light.mean_photons, report.settings.receiver.gain
    label = f"{report.model}, μ = {mu:g}, G = {gain:g}"
    return Point(label, report.accuracy, error, report.leakage.weights_bits_prior_free)


def _rows(runs: list[tuple[Report, Report]]) -> list[list[str]]:
    """Return one row per quantity, one column per run and its verification."""
    quantities: dict[str, Callable[[Report, Report], str]] = {
        "link": lambda run, _: str(run.link),
        "images": lambda run, _: str(run.images),
        "accuracy": lambda run, _: f"{run.accuracy:.2%}",
        "μ": lambda run, _: f"{run.settings.light.mean_photons:g}",
        "G": lambda run, _: f"{run.settings.receiver.gain:g}",
        "F": lambda run, _: f"{run.settings.signal_to_noise:.3g}",
        "weights, prior-free": lambda run, _: output.number(run.leakage.weights_bits_prior_free, 3),
        "  this network's": lambda run, _: output.number(run.leakage.weights_bits_network, 3),
        "  honest": lambda run, _: output.number(run.leakage.weights_bits_per_real, 3),
        "  bound": lambda _, seen: output.number(
            seen.verification.weights_bits_prior_free_upper, 2
        ),
        "data, first": lambda run, _: output.number(run.leakage.data_bits_first, 2),
        "data, journal": lambda run, _: output.number(run.leakage.data_bits_journal, 3),
        "data, quantum": lambda run, _: output.number(run.leakage.data_bits_quantum, 3),
        "label read": lambda run, _: _label(run, Detection.HOMODYNE),
        "  counting": lambda run, _: _label(run, Detection.COUNTING),
        "  at clone's δ": lambda run, _: _mismatch(run),
        "loss": lambda run, _: str(run.leakage.assumptions.loss),
        "technical noise": lambda run, _: str(run.leakage.assumptions.technical_noise),
        "T": lambda _, seen: output.number(seen.verification.transmittance, 4),
        "excess noise": lambda _, seen: output.number(seen.verification.excess_noise, 2),
        "verdict": lambda _, seen: "accepted" if seen.verification.accepted else "REJECTED",
    }
    return [[name, *(tell(*run) for run in runs)] for name, tell in quantities.items()]


def _label(report: Report, receiver: Detection) -> str:
    """Return the share of labels that one receiver reads, as far as its curve was measured."""
    for found in report.labels:
        if found.receiver is receiver:
            return f"{'≥ ' if found.at_least else ''}{found.success:.0%}"
    return "not measured"


def _mismatch(report: Report) -> str:
    """Return the mismatch that the label figures are for."""
    if not report.labels:
        return "–"
    mismatch = report.labels[0].mismatch
    phase = f", {1e3 * mismatch.phase_rad:.1f} mrad" if mismatch.phase_rad else ""
    return f"{100.0 * mismatch.gain_error:.2g} %{phase}"
