"""A hospital has tumours classified by somebody else's network, and both sides count what leaks.

    python examples/hospital.py
    python examples/hospital.py --patients 171 --client ward-3 --budget-bits 10
    python examples/hospital.py --hidden-widths 32 --mu 2.55 --splits 20 --json

The breast-cancer table that scikit-learn ships (extras `train` and `tasks`): the server trains on
398 patients, with the noise of the light in the loop; the hospital asks about others. Light is
drawn at mode level. docs/tasks.md says what the figures mean and what they do not.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from labctl.data.breast_cancer import CLASS_NAMES, Split, split
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.data.run_file import read_run
from labctl.errors import BudgetError, LabctlError, SettingError
from labctl.protocols.encoding import LEAST_PHOTONS, MOST_PHOTONS, PHOTON_RANGE, modes_of
from labctl.protocols.labels.reading import Detection
from labctl.protocols.leakage import holevo_bits_per_mode
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.settings import Light
from labctl.run.inference import run_inference
from labctl.run.report import Report
from labctl.run.request import LedgerRequest, ModeRun
from labctl.studies.attacks.label_reading import chance_of, label_success
from labctl.studies.training.loop import TrainingSettings, noisy_accuracy, train

Values = dict[str, Any]
REPEATS = (1, 10, 100)


def trained(patients: Split, hidden: tuple[int, ...], signal_to_noise: float) -> Network:
    """Train what the server offers, for the signal-to-noise that it will be used at."""
    data = patients.train
    settings = TrainingSettings(
        signal_to_noise=signal_to_noise,
        sizes=(data.images.shape[1], *hidden, len(CLASS_NAMES)),
        epochs=60,
        batch_size=32,
        learning_rate=5e-3,
        averaging=0.99,
        peak_limit=8.0,
    )
    return train(settings, data.images, data.labels, lambda report: None, "breast-cancer")


def accuracy_over(splits: int, hidden: tuple[int, ...], signal_to_noise: float) -> Values:
    """Train and test on several divisions of the patients; each accuracy over 10 noise seeds.

    Divisions share patients, so their spread over the square root of their number would be too
    small an error: Nadeau and Bengio, Machine Learning 52, 239 (2003), add the ratio of parts.
    """
    found = []
    for number in range(splits):
        one = split(number)
        network = trained(one, hidden, signal_to_noise)
        test = (one.test.images, one.test.labels, signal_to_noise)
        found.append(float(np.mean([noisy_accuracy(network, *test, seed) for seed in range(10)])))
    ratio = len(one.test.labels) / len(one.train.labels)
    spread = statistics.stdev(found)
    return {
        "splits": splits,
        "mean": statistics.mean(found),
        "standard_error": math.sqrt(1 / splits + ratio) * spread,
        "lowest": min(found),
        "highest": max(found),
    }


def labels_read(patients: Split, gain: float, rows: int) -> list[Values]:
    """Let a curious server read diagnoses from the noise that returns, by its own patients."""
    test, known = patients.test, patients.train
    found = []
    for receiver in Detection:
        for repeats in REPEATS:
            learned = label_success(
                *(test.images, test.labels, known.images, known.labels),
                gain=gain,
                rows=rows,
                repeats=repeats,
                receiver=receiver,
            )
            found.append(
                {
                    "receiver": str(receiver),
                    "repeats": repeats,
                    "label_success": learned.label_success,
                    "standard_error": learned.label_success_error,
                }
            )
    return found


def if_rows_are_alike(network: Network, report: Report) -> Values:
    """Return the leakage of layer 1 as if its rows were copies of as few rows as they span.

    The honest figure takes weights as independent. Copies can be combined by anyone who
    knows that they are: M rows that are worth r carry M/r times the light on each, and M/r times
    the noise that an honest client may add. r is the participation ratio of the singular values.
    """
    layer = network.layers[0].astype(np.float64)
    power = np.linalg.svd(layer, compute_uv=False) ** 2
    effective = float(power.sum() ** 2 / np.sum(power**2))
    copies = len(layer) / effective
    receiver, photons = report.settings.receiver, report.settings.light.mean_photons
    noise = receiver.returned_noise / modes_of(layer.shape[1])
    bits = holevo_bits_per_mode(copies * photons, 1.0, copies * noise) / 2.0
    return {"rows": len(layer), "effective_rows": effective, "weights_bits_per_real": bits}


def classified(options: argparse.Namespace, patients: Split, network: Network) -> Report:
    """Classify the first patients of the test part, verified and booked."""
    count, ledger = options.patients, options.ledger or options.runs / "ledger"
    test = patients.test
    return run_inference(
        ModeRun(
            network=network,
            images=LabelledImages(test.images[:count], test.labels[:count]),
            runs=options.runs,
            light=Light(options.mu),
            receiver=CloneReceiver(options.gain, 1.0, IDEAL_HOMODYNE),
            ledger=LedgerRequest(ledger, options.client, options.budget_bits),
            seed=options.seed,
        )
    )


def patients_of(report: Report, patients: Split) -> list[Values]:
    """Return each patient's row in the table, the class that the hospital read, and the truth."""
    run = read_run(report.run_files.client)
    return [
        {"patient": int(who), "class": CLASS_NAMES[found], "diagnosis": CLASS_NAMES[label]}
        for who, found, label in zip(
            patients.test_patients, run.predictions, run.labels, strict=False
        )
    ]


def show(values: Values) -> None:
    """Print what was found for people."""
    leak, verdict, ledger = values["leakage"], values["verification"], values["ledger"]
    for one in values["patients"]:
        print(f"patient {one['patient']:<6}{one['class']:<11}(diagnosed {one['diagnosis']})")
    print(f"accuracy      {values['accuracy']:.1%} of {values['images']}")
    if values["accuracy_over_splits"]:
        over = values["accuracy_over_splits"]
        print(
            f"              {over['mean']:.1%} ± {over['standard_error']:.1%} over "
            f"{over['splits']} divisions of the patients"
        )
    print(f"setting       μ = {values['mu']:g}, G = {values['gain']:g}, F = {values['F']:.3g}")
    alike = values["rows_alike"]
    print(
        f"weights       {leak['weights_bits_prior_free']:.3g} bit per real weight and query "
        f"(prior-free), {leak['weights_bits_network']:.3g} for this network, "
        f"{leak['weights_bits_per_real']:.3g} honest; {leak['weights_bits_per_query']:.3g} bit per "
        "query (prior-free)"
    )
    print(
        f"  rows alike  {alike['weights_bits_per_real']:.3g} bit per weight and query (honest), "
        f"were {alike['rows']} rows known to be worth {alike['effective_rows']:.2f}"
    )
    print(
        f"data          {leak['data_bits_journal']:.3g} bit per symbol (journal version), "
        f"{leak['data_bits_quantum']:.3g} (quantum limit); "
        f"{leak['data_bits_quantum_per_input']:.3g} bit per patient at most"
    )
    for one in values["labels_read"]:
        print(
            f"diagnoses     {one['label_success']:.1%} ± {one['standard_error']:.1%} read by "
            f"{one['receiver']}, each patient sent {one['repeats']} times "
            f"(chance {values['chance']:.1%})"
        )
    upper = verdict["weights_bits_prior_free_upper"]
    proved = "nothing yet" if upper is None else f"at most {upper:.3g} bit per weight and query"
    print(f"proved        {proved}, from {verdict['samples']} returned samples")
    accepted = {True: "accepted", False: "REJECTED", None: "not verified"}[verdict["accepted"]]
    print(f"verdict       {accepted}: {verdict['reason']}")
    spent, budget = (ledger[name].get("bits_per_weight", 0.0) for name in ("spent", "budget"))
    print(f"ledger        {ledger['client']}: {spent:.3g} of {budget:.3g} bit per weight spent")
    for sentence in leak["assumptions"]["in_words"]:
        print(f"assumes       {sentence}")
    for party, path in values["run_files"].items():
        print(f"run file      {path} ({party}'s)")


def widths(text: str) -> tuple[int, ...]:
    """Read hidden widths; none is a linear network."""
    return tuple(int(part) for part in text.split(",") if part.strip())


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=20, help="how many to ask about")
    parser.add_argument("--split", type=int, default=0, help="which division of the patients")
    parser.add_argument("--splits", type=int, default=0, help="accuracy over this many divisions")
    parser.add_argument(
        "--hidden-widths", type=widths, default=(), help="hidden widths, as 32,16 (none)"
    )
    parser.add_argument("--mu", type=float, default=10.2, help="photons per mode")
    parser.add_argument("--gain", type=float, default=1.1, help="of the hospital's amplifier")
    parser.add_argument("--client", default="hospital", help="the hospital's name at the server")
    parser.add_argument("--budget-bits", type=float, default=5.0, help="its budget per weight")
    parser.add_argument("--ledger", type=Path, help="folder of the ledger (in the runs' folder)")
    parser.add_argument("--runs", type=Path, default=Path("labctl-runs"), help="for run files")
    parser.add_argument("--seed", type=int, default=0, help="of what light does")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.splits == 1 or options.splits < 0:
        parser.error(f"--splits {options.splits}: 2 or more, or 0 for none")
    return options


def main() -> None:
    """Train, classify, count, report."""
    options = parsed()
    patients = split(options.split)
    if not 1 <= options.patients <= len(patients.test.labels):
        raise SettingError("--patients", options.patients, f"1 to {len(patients.test.labels)}")
    if not LEAST_PHOTONS <= options.mu <= MOST_PHOTONS:
        raise SettingError("--mu", options.mu, PHOTON_RANGE)
    receiver = CloneReceiver(options.gain, 1.0, IDEAL_HOMODYNE)
    signal_to_noise = receiver.signal_to_noise(options.mu, 1.0)
    over = None
    if options.splits:
        over = accuracy_over(options.splits, options.hidden_widths, signal_to_noise)
    network = trained(patients, options.hidden_widths, signal_to_noise)
    report = classified(options, patients, network)
    rows = network.sizes[1]
    values = {
        **report.as_json(),
        "patients": patients_of(report, patients),
        "accuracy_over_splits": over,
        "rows_alike": if_rows_are_alike(network, report),
        "labels_read": labels_read(patients, options.gain, rows),
        "chance": chance_of(patients.test.labels),
    }
    if options.json:
        print(json.dumps(values))
    else:
        show(values)
    if report.stopped is not None:
        asked = options.patients
        raise BudgetError(f"stopped after {report.images} of {asked} patients: {report.stopped}")


if __name__ == "__main__":
    try:
        main()
    except (LabctlError, OSError, KeyboardInterrupt) as stop:
        sys.exit("; ".join([str(stop) or "interrupted", *getattr(stop, "__notes__", [])]))
