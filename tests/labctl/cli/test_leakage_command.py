"""`labctl leakage` says the closed forms, with their assumptions."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.data.models import Network, save_network

Result = subprocess.CompletedProcess[str]


@pytest.fixture
def leakage(run_here: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """Run `labctl leakage --json` and return its object."""

    def run(*arguments: str) -> dict[str, Any]:
        result = run_here("leakage", *arguments, "--json")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.count("\n") == 1
        return dict(json.loads(result.stdout))

    return run


@pytest.mark.parametrize(
    ("mu", "gain", "known"),
    [
        (4, 2, (0.0874, 0.0437, 0.00725, 0.505, 0.799)),
        (6, 1.3, (0.0651, 0.0325, 0.00156, 0.187, 0.476)),
    ],
)
def test_the_published_settings_leak_what_is_known(
    mu: float, gain: float, known: tuple[float, ...], leakage: Callable[..., dict[str, Any]]
) -> None:
    found = leakage("--mu", str(mu), "--gain", str(gain), "--modes", "392", "--rows", "794")
    weights = ("weights_bits_per_mode", "weights_bits_per_real")
    names = (*weights, "data_bits_first", "data_bits_journal", "data_bits_quantum")
    assert [float(f"{found[name]:.3g}") for name in names] == list(known)


def test_a_gentle_setting_leaks_what_is_known(leakage: Callable[..., dict[str, Any]]) -> None:
    found = leakage("--mu", "1", "--gain", "1.2")
    assert f"{found['weights_bits_per_mode']:.3g}" == "0.00989"
    assert f"{found['weights_bits_per_real']:.3g}" == "0.00495"


def test_the_answer_comes_from_a_process_too(run_process: Callable[..., Result]) -> None:
    options = ("--mu", "4", "--gain", "2", "--modes", "392", "--rows", "794", "--json")
    result = run_process("leakage", *options)
    assert (result.returncode, result.stderr, result.stdout.count("\n")) == (0, "", 1)
    found = json.loads(result.stdout)
    assert f"{found['weights_bits_per_real']:.4f}" == "0.0437"
    assert (found["modes"], found["rows"]) == (392, 794)


@pytest.mark.parametrize("loss_db", [0.1, 1.0, 3.0])
def test_untrusted_loss_hands_the_lost_light_to_the_client(
    loss_db: float, leakage: Callable[..., dict[str, Any]]
) -> None:
    options = ("--mu", "4", "--gain", "2", "--loss-db", str(loss_db))
    lost_photons = 4.0 * (1.0 - 10.0 ** (-loss_db / 10.0))
    # The entropy of a thermal state with as many photons: all of it tells of the weights.
    bits = (lost_photons + 1) * math.log2(lost_photons + 1) - lost_photons * math.log2(lost_photons)
    without_loss = leakage("--mu", "4", "--gain", "2")["weights_bits_per_mode"]
    untrusted = leakage(*options)["weights_bits_per_mode"]
    assert bits < untrusted < bits + without_loss
    trusted = leakage(*options, "--loss", "trusted")["weights_bits_per_mode"]
    assert without_loss < trusted < 2 * without_loss


def test_untrusted_technical_noise_costs_what_is_known(
    leakage: Callable[..., dict[str, Any]],
) -> None:
    options = ("--mu", "6", "--gain", "1.3", "--technical-noise", "0.02")
    assert f"{leakage(*options)['weights_bits_per_real']:.2f}" == "0.31"
    trusted = leakage(*options, "--noise", "trusted")
    assert f"{trusted['weights_bits_per_real']:.4f}" == "0.0325"


def test_leakage_adds_up_over_queries(leakage: Callable[..., dict[str, Any]]) -> None:
    found = leakage("--mu", "4", "--gain", "2", "--queries", "23")
    total = found["weights_bits_prior_free_all_queries"]
    assert total == pytest.approx(23 * found["weights_bits_prior_free"], rel=1e-12)
    assert found["weights_bits_prior_free"] == pytest.approx(0.4783, abs=1e-4)
    assert found["weights_bits_network"] is None
    assert found["queries_per_bit_per_weight"] == pytest.approx(2.0906, abs=1e-3)


def test_the_worst_case_is_assumed_unless_said_otherwise(
    leakage: Callable[..., dict[str, Any]],
) -> None:
    assumed = leakage("--mu", "4", "--gain", "2")["assumptions"]
    assert (assumed["loss"], assumed["technical_noise"]) == ("untrusted", "untrusted")
    said = leakage("--mu", "4", "--gain", "2", "--loss", "trusted", "--noise", "trusted")
    assert (said["assumptions"]["loss"], said["assumptions"]["technical_noise"]) == (
        "trusted",
        "trusted",
    )
    assert said["assumptions"]["in_words"] != assumed["in_words"]


def test_people_get_a_table_with_the_assumptions(run_here: Callable[..., Result]) -> None:
    result = run_here("leakage", "--mu", "4", "--gain", "2")
    assert (result.returncode, result.stderr) == (0, "")
    assert "0.47834 bit per real weight" in result.stdout
    assert "0.043692 bit per real weight" in result.stdout
    assert "give --model" in result.stdout
    assert "loss untrusted" in result.stdout


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--mu", "0", "--mu = 0.0: must be 1e-12 to 1e+09"),
        ("--mu", "-1", "--mu = -1.0: must be 1e-12 to 1e+09"),
        ("--mu", "nan", "mu = nan: must be a finite number"),
        ("--mu", "inf", "mu = inf: must be a finite number"),
        ("--gain", "1", "gain = 1.0: must be above 1"),
        ("--gain", "0.5", "gain = 0.5: must be above 1"),
        ("--gain", "nan", "gain = nan: must be a finite number"),
        ("--gain", "inf", "gain = inf: must be a finite number"),
        ("--modes", "0", "modes = 0: must be 1 to 1000000"),
        ("--rows", "-1", "rows = -1: must be 1 to 1000000"),
        ("--queries", "0", "queries = 0: must be 1 to 1e+12"),
        ("--queries", "10" * 10, "must be 1 to 1e+12"),
        ("--loss-db", "-1", "--loss-db = -1.0: must be 0 or more, below 200 dB"),
        ("--loss-db", "nan", "--loss-db = nan: must be 0 or more"),
        ("--loss-db", "1e6", "--loss-db = 1000000.0: must be 0 or more, below 200 dB"),
        ("--technical-noise", "-0.1", "--technical-noise = -0.1: must be 0 to 1e+06, in SNU"),
        ("--technical-noise", "inf", "--technical-noise = inf: must be 0 to 1e+06, in SNU"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    option: str, value: str, told: str, refused: Callable[..., str]
) -> None:
    options = {"--mu": "4", "--gain": "2", option: value}
    line = refused("leakage", *(part for pair in options.items() for part in pair), "--json")
    assert told in line


def test_a_model_adds_its_own_bound_between_the_other_two(
    leakage: Callable[..., dict[str, Any]],
) -> None:
    found = leakage("--mu", "8.91", "--gain", "1.0128", "--model", "few-rows")
    names = ("weights_bits_per_real", "weights_bits_network", "weights_bits_prior_free")
    honest, network, prior_free = (found[name] for name in names)
    assert honest == pytest.approx(0.00996, abs=1e-5)
    assert network == pytest.approx(0.1115, rel=0.01)
    assert prior_free == pytest.approx(0.3462, abs=1e-4)


def test_a_network_of_signs_has_no_figure_that_holds_but_the_levels(
    run_here: Callable[..., Result], leakage: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    weights = np.sign(np.random.default_rng(1).standard_normal((12, 40))).astype(np.float32)
    save_network(Network((weights,), "signs", {}), tmp_path / "signs.safetensors")
    setting = ("--mu", "20", "--gain", "2", "--model", "signs.safetensors")
    found = leakage(*setting)["weight_distribution"]
    assert (found["discrete"], found["told_apart"]) == (True, True)
    spoken = " ".join(run_here("leakage", *setting).stdout.split())
    assert "DO NOT HOLD" in spoken
    assert "labctl infer refuses them" in spoken
    assert leakage("--mu", "1", "--gain", "1.2")["weight_distribution"] is None
