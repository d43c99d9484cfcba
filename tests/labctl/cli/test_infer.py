"""`labctl infer` runs the protocol, reports it, keeps a run file, and refuses what cannot be."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from infer_runs import Infer, Result, object_of, run_of, server_run_of
from long_tests import long

from labctl.data.models import Network, load_network

TOP = {"accuracy", "images", "link", "model", "mu", "gain", "F", "leakage", "verification"}
TOP |= {"seconds", "run_file", "run_files"}
LEAKAGE = {"weights_bits_per_mode", "weights_bits_per_real", "data_bits_first"}
LEAKAGE |= {"data_bits_journal", "data_bits_quantum", "assumptions"}
VERIFICATION = {"accepted", "transmittance", "excess_noise", "excess_noise_upper", "samples"}


def test_a_process_prints_one_object_with_all_that_is_promised(
    run_process: Callable[..., Result], tiny_network: str, tmp_path: Path
) -> None:
    line = "--link mode --images 30 --mu 6 --gain 1.3 --loss-db 0.5 --loss trusted --seed 3"
    options = (*line.split(), "--technical-noise", "0.01", "--sample", "all", "--json")
    found = object_of(run_process("infer", "--model", tiny_network, *options))
    assert found.keys() >= TOP
    assert found["leakage"].keys() >= LEAKAGE
    assert found["verification"].keys() >= VERIFICATION
    assert (found["images"], found["link"], found["model"]) == (30, "mode", "tiny")
    assert (found["mu"], found["gain"], found["loss_db"]) == (6.0, 1.3, 0.5)
    assert found["leakage"]["assumptions"]["loss"] == "trusted"
    assert found["verification"]["samples"] == 30 * (8 * 392 + 10 * 4)
    assert found["seconds"] > 0
    assert run_of(found, tmp_path).complete


def test_f_is_that_of_the_closed_form(infer: Infer) -> None:
    gain, mu, loss_db = 1.3, 0.57, 2.0
    referred = (2 * gain**2 - 3 * gain + 2) / (gain * (gain - 1))
    lossless = infer("--mu", str(mu), "--gain", str(gain))["F"]
    assert lossless == pytest.approx(2 * mu / referred, rel=1e-9)
    lossy = infer("--mu", str(mu), "--gain", str(gain), "--loss-db", str(loss_db))["F"]
    assert lossy == pytest.approx(lossless * 10 ** (-loss_db / 20), rel=1e-9)


def test_the_leakage_is_that_of_the_leakage_command(
    infer: Infer, run_here: Callable[..., Result]
) -> None:
    found = infer("--mu", "6", "--gain", "1.3")["leakage"]
    narrow = object_of(
        run_here("leakage", "--mu", "6", "--gain", "1.3", "--modes", "4", "--rows", "10", "--json")
    )
    names = ("weights_bits_per_mode", "weights_bits_per_real", "data_bits_journal")
    assert [found[name] for name in names] == [narrow[name] for name in names]
    assert found["weights_bits_prior_free_all_queries"] == pytest.approx(
        12 * found["weights_bits_prior_free"]
    )


def test_a_bright_quiet_session_classifies_as_the_network_does(
    infer: Infer, tiny_network: str, tmp_path: Path
) -> None:
    run = run_of(infer("--mu", "1e9", "--sample", "measured"), tmp_path)
    values = np.frombuffer((tmp_path / "pictures/t10k-images-idx3-ubyte").read_bytes()[16:], "u1")
    for layer in load_network(tmp_path / tiny_network).layers:
        values = np.maximum(values.reshape(12, -1) @ layer.T.astype(float), 0.0)
    assert run.predictions.tolist() == values.argmax(axis=1).tolist()


def test_each_party_s_file_holds_settings_and_what_the_party_knows(
    infer: Infer, tiny_network: str, tmp_path: Path
) -> None:
    found = infer("--mu", "3", "--gain", "1.5", "--seed", "8")
    server, run = server_run_of(found, tmp_path), run_of(found, tmp_path)
    assert found["run_file"] == found["run_files"]["client"]
    network = load_network(tmp_path / tiny_network)
    for each, other in ((server, run), (run, server)):
        assert each.complete
        assert each.seed == 8
        assert each.settings["mean_photons"] == 3.0
        assert each.settings["receiver"]["gain"] == 1.5
        assert (each.settings["link"], each.settings["images"]) == ("mode", 12)
        assert each.station_text is None
        assert each.versions.keys() >= {"labctl", "numpy"}
        assert each.images.tolist() == list(range(12))
        assert each.peer_file == other.path.name
        assert each.path.name == re.sub("server|client", str(each.party), other.path.name)
    assert isinstance(server.model, Network)
    assert server.model.sha256 == network.sha256
    assert run.model == network.public
    assert run.labels.tolist() == [*range(10), 0, 0]
    assert found["accuracy"] == pytest.approx((run.predictions == run.labels).mean())
    assert server.verification is not None
    assert server.verification.items() >= found["verification"].items()
    assert run.verification == {
        name: found["verification"][name]
        for name in (
            *("accepted", "reason", "transmittance_lower", "excess_noise_upper"),
            *("weights_bits_prior_free_upper", "failure_probability", "assumptions"),
        )
    }
    assert server.leakage is not None
    assert run.leakage is not None
    for leakage in (server.leakage, run.leakage):
        assert leakage["weights_bits_per_real"] == found["leakage"]["weights_bits_per_real"]
    assert server.leakage["weights_bits_network"] == found["leakage"]["weights_bits_network"]
    # The network's own figure is of its weights, which the client does not know.
    assert run.leakage["weights_bits_network"] is None
    measured = run.measured()
    assert measured is not None
    assert [layer.shape for layer in measured] == [(12, 8), (12, 10)]


def test_a_rarer_failure_of_the_bounds_costs_bits(infer: Infer) -> None:
    """Bounds, sum and verdict hold except with the failure probability that was asked for."""
    often, rarely = (infer("--failure-probability", chance) for chance in ("0.01", "1e-10"))
    assert often["verification"]["failure_probability"] == 0.01
    for part, name in (
        ("verification", "weights_bits_prior_free_upper"),
        ("cumulative", "collective_upper"),
    ):
        assert 0.0 < often[part][name] < rarely[part][name], name
    found = infer("--false-alarm-probability", "1e-3")["verification"]
    assert found["false_alarm_probability"] == 1e-3
    shares = {one["name"]: one["false_alarm_probability"] for one in found["checks"]}
    assert sum(shares.values()) <= 1e-3 * (1.0 + 1e-9)


def test_the_server_can_be_checked_from_its_run_file(infer: Infer, tmp_path: Path) -> None:
    run = server_run_of(infer("--sample", "all"), tmp_path)
    assert set(run.raw_names) == {"evidence/layer0", "evidence/layer1"}
    sums = run.raw("evidence", "layer0")
    assert sums.shape == (12, 4)
    assert set(sums[:, 0]) == {8 * 392.0}


def test_measured_values_alone_verify_nothing(infer: Infer, tmp_path: Path) -> None:
    found = infer("--sample", "measured")["verification"]
    assert found["samples"] == 0
    for name in ("accepted", "transmittance", "excess_noise", "excess_noise_upper"):
        assert found[name] is None


def test_honest_light_is_accepted_and_measured_right(infer: Infer) -> None:
    # 12 images x 3176 modes; five standard errors, seed 2.
    found = infer("--mu", "20", "--gain", "1.3", "--loss-db", "1", "--seed", "2")["verification"]
    assert found["accepted"] is True
    assert found["samples"] == 12 * (8 * 392 + 10 * 4)
    assert found["transmittance"] == pytest.approx(10**-0.1, abs=5 * 0.0015)
    assert abs(found["excess_noise"] - found["excess_noise_expected"]) < 5 * 0.0075
    assert found["excess_noise"] < found["excess_noise_upper"]


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    changing = ("seconds", "run_file", "run_files")
    return {key: value for key, value in found.items() if key not in changing}


def measured_of(found: dict[str, Any], folder: Path) -> list[list[float]]:
    measured = run_of(found, folder).measured()
    assert measured is not None
    return [layer.ravel().tolist() for layer in measured]


@pytest.mark.parametrize("sample", ["all", *long("measured")])
def test_the_same_seed_gives_the_same_run_and_another_another(
    sample: str, infer: Infer, tmp_path: Path
) -> None:
    first, again, other = (infer("--sample", sample, "--seed", s) for s in ("5", "5", "6"))
    assert without_times(first) == without_times(again)
    assert first["run_file"] != again["run_file"]
    assert measured_of(first, tmp_path) == measured_of(again, tmp_path)
    assert measured_of(first, tmp_path) != measured_of(other, tmp_path)


def test_fewer_images_are_the_first_ones(infer: Infer, tmp_path: Path) -> None:
    all_of_them = measured_of(infer("--sample", "measured"), tmp_path)
    five = measured_of(infer("--sample", "measured", "--images", "5"), tmp_path)
    # The same light and noise; sums of other batches may be rounded otherwise.
    assert five[0] == pytest.approx(all_of_them[0][: 5 * 8], rel=1e-4, abs=1e-4)
