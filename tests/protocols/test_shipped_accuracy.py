"""What the shipped networks reach through the protocol engine, on all 10,000 test images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from long_tests import long
from sessions import ideal_session

from labctl.data.mnist import load_test_images
from labctl.data.models import load_network
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling


@pytest.mark.parametrize(
    ("model", "mean_photons", "gain", "accuracy", "weights_bits", "data_bits_journal"),
    [
        ("reference", 4.0, 2.0, 0.965, 0.0438, 0.51),
        ("noise-aware", 0.57, 1.3, 0.965, 0.005, 0.19),
        ("noise-aware", 7.5, 1.02, 0.965, 0.005, 0.0025),
        ("noise-aware", 0.38, 1.3, 0.96, 0.0028, 0.19),
        ("few-rows", 1.14, 1.3, 0.96, 0.02, 0.07),
        ("few-rows", 15.0, 1.02, 0.96, 0.0235, 0.0008),
        ("many-rows", 0.19, 1.3, 0.957, 0.0015, 0.34),
        ("deep", 0.15, 2.0, 0.97, 0.00225, 0.51),
    ],
)
def test_accuracy_and_leakage(
    model: str,
    mean_photons: float,
    gain: float,
    accuracy: float,
    weights_bits: float,
    data_bits_journal: float,
) -> None:
    """One seed; the standard error of an accuracy of 0.97 on 10,000 images is 0.0017."""
    data = load_test_images()
    settings = ideal_session(mean_photons, gain, sampling=Sampling.MEASURED, seed=0)
    session = Session(load_network(model), settings, ModeLink(settings))
    correct = sum(
        int((batch.classes == data.labels[batch.first_image :][: len(batch.classes)]).sum())
        for batch in session.run(data.images)
    )
    leakage = session.leakage()
    assert correct / 10_000 >= accuracy
    assert leakage.weights_bits_per_real <= weights_bits
    assert leakage.data_bits_journal <= data_bits_journal


@pytest.mark.parametrize(
    "sample", [["--images", "10000", "--sample", "measured"], *long(["--images", "64"])]
)
def test_a_mode_level_run_stays_below_one_gibibyte(tmp_path: Path, sample: list[str]) -> None:
    program = (
        "import sys; from labctl.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    lines = open('/proc/self/status').read().splitlines()\n"
        "    peak = next(line for line in lines if line.startswith('VmHWM'))\n"
        "    print(int(peak.split()[1]) * 1024, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "infer", "--json", *sample],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert int(done.stderr.split()[-1]) < 2**30
