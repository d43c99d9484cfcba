"""`labctl infer --ledger`: reserved before light is sent, booked after, stopped by the budget."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.data.models import Network, load_network, save_network
from labctl.data.run_file import read_run
from labctl.errors import LabctlError
from labctl.protocols.leakage.cumulative import everything_bits
from labctl.station import Station

Result = subprocess.CompletedProcess[str]


@pytest.fixture
def infer(
    run_here: Callable[..., Result], tiny_network: str, pictures: str
) -> Callable[..., Result]:
    """Run `labctl infer --json` with the tiny network on the twelve pictures."""

    def run(*arguments: str) -> Result:
        given = ("--model", tiny_network, "--data", pictures, "--images", "12")
        return run_here("infer", *given, *arguments, "--json")

    return run


BOOKED = ("--ledger", "books", "--client", "alice")
KEPT = (*BOOKED, "--sample", "measured")
HONEST = (*KEPT, "--reserve", "honest")


def ledger_of(result: Result) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout)["ledger"])


def test_a_network_with_a_row_of_zeros_is_inferred_and_the_client_has_what_was_sent_alone(
    run_here: Callable[..., Result], tiny_network: str, pictures: str, tmp_path: Path
) -> None:
    network = load_network(tiny_network)
    layers = [layer.copy() for layer in network.layers]
    layers[0][1] = 0.0
    path = tmp_path / "dead.safetensors"
    save_network(Network(tuple(layers), "dead", {}), path)
    given = ("--model", str(path), "--data", pictures, "--images", "12", "--json")
    result = run_here("infer", *given, *KEPT)
    assert result.returncode == 0, result.stderr
    run = read_run(Path(json.loads(result.stdout)["run_file"]))
    measured = run.measured()
    assert measured is not None
    sent = int(layers[0].any(axis=1).sum())
    assert sent < len(layers[0])
    assert (run.model.sizes[1], measured[0].shape) == (sent, (12, sent))
    assert np.isfinite(measured[0]).all()


def test_without_a_ledger_none_is_made(infer: Callable[..., Result], tmp_path: Path) -> None:
    found = json.loads(infer().stdout)
    assert (found["ledger"], found["stopped"]) == (None, None)
    assert {path.name for path in tmp_path.iterdir()} == {
        "labctl-runs", "pictures", "tiny.safetensors",
    }  # fmt: skip


@pytest.mark.parametrize(
    "trust",
    [(), ("--loss-db", "3", "--loss", "trusted"),
     ("--loss-db", "1", "--loss", "trusted", "--technical-noise", "0.01", "--noise", "trusted")],
)  # fmt: skip
def test_no_run_is_charged_less_than_the_bound_that_it_prints(
    infer: Callable[..., Result], trust: tuple[str, ...]
) -> None:
    """At a failure probability at which the few images of a small network say something."""
    result = infer(*BOOKED, *trust, "--failure-probability", "0.3")
    charged = ledger_of(result)["charged"]["bits_per_weight"]
    printed = json.loads(result.stdout)["cumulative"]["collective_upper"]
    assert charged >= printed * (1.0 - 1e-9)
    assert printed < 0.95 * everything_bits(12 * 0.57)


def test_runs_of_a_client_add_up(
    infer: Callable[..., Result], run_here: Callable[..., Result]
) -> None:
    first, second = (ledger_of(infer(*HONEST)) for _ in range(2))
    assert first["queries"] == second["queries"] == 12
    assert second["spent"]["queries"] == 24
    # Light that nobody looked at may have been kept: all of it is one mode.
    assert first["spent"]["bits_per_weight"] == pytest.approx(everything_bits(12 * 0.57))
    assert second["spent"]["bits_per_weight"] == pytest.approx(everything_bits(24 * 0.57))
    assert second["basis"] == "everything"
    other = ledger_of(infer(*HONEST, "--client", "bob"))
    assert other["spent"]["queries"] == 12
    verified = json.loads(run_here("ledger", "verify", "--ledger", "books", "--json").stdout)
    assert verified["server"]["head"] == other["head"]["hash"]


def test_light_that_came_back_is_booked_at_its_bounds(infer: Callable[..., Result]) -> None:
    found = json.loads(infer(*BOOKED).stdout)
    ledger, verdict = found["ledger"], found["verification"]
    assert ledger["basis"] == "collective"
    assert verdict["collective"]["queries"] == 12
    assert 0.0 < ledger["charged"]["bits_per_weight"] <= everything_bits(12 * 0.57) * (1 + 1e-9)
    assert ledger["reserved"]["bits_per_weight"] == 0


def test_a_budget_that_ends_in_a_run_stops_it_with_a_readable_file(
    infer: Callable[..., Result],
) -> None:
    most = ledger_of(infer(*KEPT))["charged"]["bits_per_weight"]
    budget = 0.5 * (everything_bits(5 * 0.57) + everything_bits(6 * 0.57))
    assert budget < most
    result = infer(*KEPT, "--client", "bob", "--budget-bits", str(budget))
    assert result.returncode == 2
    assert result.stderr.startswith("error: stopped after 5 of 12 images: budget of client bob")
    found = json.loads(result.stdout)
    assert (found["images"], found["ledger"]["queries_left"]) == (5, 0)
    said = {"server": found["stopped"], "client": "BudgetError at the server"}
    for party, reason in said.items():
        run = read_run(Path(found["run_files"][party]))
        assert (run.status, len(run.images), run.reason) == ("aborted", 5, reason)
    again = infer(*KEPT, "--client", "bob")
    assert (again.returncode, again.stdout) == (2, "")
    assert "0 more such queries fit" in again.stderr


def test_a_quota_of_repeats_stops_the_run_that_would_exceed_it(
    infer: Callable[..., Result], run_here: Callable[..., Result]
) -> None:
    assert (
        run_here("ledger", "set-budget", "--ledger", "books", "--max-repeats", "1").returncode == 0
    )
    ledger_of(infer(*HONEST))
    result = infer(*HONEST)
    assert (result.returncode, result.stdout) == (2, "")
    assert "of 1 queries allowed" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--ledger", "books"), "--client"),
        (("--client", "alice"), "--ledger"),
        (("--budget-bits", "1"), "--ledger"),
        (("--ledger", "books", "--client", "a/b"), "letters"),
        ((*BOOKED, "--budget-bits", "-1"), "0 to"),
    ],
)
def test_options_that_make_no_account_are_usage_errors(
    arguments: tuple[str, ...], complaint: str, infer: Callable[..., Result]
) -> None:
    result = infer(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert complaint in result.stderr


def test_copies_have_a_figure_or_a_reason(infer: Callable[..., Result]) -> None:
    found = json.loads(infer().stdout)["best_copy"]
    assert found["accuracy"] is None
    assert found["queries"] == 12
    assert "no copy of" in found["reason"]
    booked = json.loads(infer(*KEPT).stdout)["best_copy"]
    assert "nobody looked at their light" in booked["reason"]


def test_people_read_which_queries_the_best_copy_counts(run_here: Callable[..., Result]) -> None:
    """The same run: alone its light is judged together, an account may be of single queries."""

    def told(*arguments: str) -> str:
        result = run_here("infer", "--images", "2", "--sample", "measured", *arguments)
        assert result.returncode == 0, result.stderr
        return " ".join(result.stdout.replace("│", " ").split())

    assert "counts this run's queries alone, judged together" in told()
    booked = told("--ledger", "books", "--client", "alice")
    assert "counts all queries of this client's account" in booked


def test_a_weight_that_rides_twice_in_a_query_counts_twice(infer: Callable[..., Result]) -> None:
    found = json.loads(infer(*KEPT, "--signs").stdout)
    kept = everything_bits(12 * 2 * 0.57)
    assert found["cumulative"]["queries"] == 12
    assert found["cumulative"]["bits_per_real_weight"] == pytest.approx(kept)
    assert found["ledger"]["spent"]["bits_per_weight"] == pytest.approx(kept)


def test_the_same_run_again_is_new_light_of_the_same_honest_client(
    infer: Callable[..., Result],
) -> None:
    """Noise that repeated would be taken for the client's: light never repeats its own."""
    first, second = (json.loads(infer(*BOOKED).stdout) for _ in range(2))
    assert (first["verification"]["accepted"], second["verification"]["accepted"]) == (True, True)
    assert (first["seed"], second["seed"] == 0) == (0, False)
    noise = [each["verification"]["excess_noise"] for each in (first, second)]
    assert noise[0] != noise[1]


@pytest.fixture
def alice(run_here: Callable[..., Result], tmp_path: Path) -> str:
    """The file of the private key that alice is bound to in the ledger `books`."""
    made = run_here("ledger", "client-key", "alice.pem")
    (tmp_path / "alice.pub").write_text(made.stdout)
    bound = run_here(
        "ledger", "add-client", "alice", "--public-key", "alice.pub", "--ledger", "books"
    )
    assert bound.returncode == 0, bound.stderr
    return "alice.pem"


def test_a_bound_client_runs_with_its_key_alone(
    infer: Callable[..., Result],
    run_here: Callable[..., Result],
    is_refusal: Callable[..., str],
    alice: str,
    tmp_path: Path,
) -> None:
    run_here("ledger", "client-key", "other.pem")
    before = (tmp_path / "books" / "server.jsonl").read_bytes()
    assert "--client-key FILE with its private key" in is_refusal(infer(*HONEST))
    assert "this is another" in is_refusal(infer(*HONEST, "--client-key", "other.pem"))
    assert "key is not there" in is_refusal(infer(*HONEST, "--client-key", "none.pem"))
    (tmp_path / alice).chmod(0o644)
    assert "others may read" in is_refusal(infer(*HONEST, "--client-key", alice))
    (tmp_path / alice).chmod(0o600)
    assert (tmp_path / "books" / "server.jsonl").read_bytes() == before
    # Nothing was opened: that begins with counting the run.
    assert not (tmp_path / "books" / "runs").exists()
    ledger = ledger_of(infer(*HONEST, "--client-key", alice))
    (account,) = json.loads(run_here("ledger", "show", "--ledger", "books", "--json").stdout)[
        "server"
    ]["accounts"]
    assert ledger["identity"] == account["identity"] != "name alone"
    assert ledger["queries"] == 12


class ReachedTheBenchError(LabctlError):
    """The run went on to open its instruments."""


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ((), "--client-key FILE with its private key"),
        (("--client-key", "other.pem"), "this is another"),
        (("--client-key", "none.pem"), "key is not there"),
    ],
)
def test_on_a_bench_no_instrument_is_opened_for_a_client_without_its_key(
    run_here: Callable[..., Result],
    is_refusal: Callable[..., str],
    tiny_network: str,
    alice: str,
    key: tuple[str, ...],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def reached(station: Station) -> Station:
        raise ReachedTheBenchError(str(station.path))

    monkeypatch.setattr(Station, "open", reached)
    given = ("infer", "--link", "bench", "--model", tiny_network, "--images", "2", *HONEST)
    run_here("ledger", "client-key", "other.pem")
    before = (tmp_path / "books" / "server.jsonl").read_bytes()
    assert complaint in is_refusal(run_here(*given, *key))
    assert (tmp_path / "books" / "server.jsonl").read_bytes() == before
    # With the key the same run goes on to the bench.
    assert "lab.toml" in is_refusal(run_here(*given, "--client-key", alice), code=1)


def test_an_unbound_client_is_known_by_name_alone_and_its_key_is_refused(
    infer: Callable[..., Result], is_refusal: Callable[..., str], alice: str
) -> None:
    bob = (*HONEST, "--client", "bob")
    assert ledger_of(infer(*bob))["identity"] == "name alone"
    assert "bob is bound to no key" in is_refusal(infer(*bob, "--client-key", alice))
    assert "--ledger" in is_refusal(infer("--client-key", alice))


def test_a_budget_is_raised_with_the_operators_key_alone(
    infer: Callable[..., Result], is_refusal: Callable[..., str]
) -> None:
    for bits in ("8", "6"):
        assert ledger_of(infer(*HONEST, "--budget-bits", bits))["budget"] == {
            "bits_per_weight": float(bits)
        }
    raised = (*HONEST, "--budget-bits", "9")
    assert "which only the operator may" in is_refusal(infer(*raised))
    assert "key is not there" in is_refusal(infer(*raised, "--operator-keys", "elsewhere"))
    given = infer(*raised, "--operator-keys", "books-operator")
    assert ledger_of(given)["budget"] == {"bits_per_weight": 9.0}
