"""`labctl infer --probation`: worthless queries first and in between, and what is said of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labctl.data.models import Network, load_network, save_network
from labctl.data.run_file import read_run

Result = subprocess.CompletedProcess[str]


@pytest.fixture
def stand_in(tmp_path: Path, tiny_network: str) -> str:
    """A second network of the tiny one's shape."""
    draw = np.random.default_rng(77)
    layers = load_network(tmp_path / tiny_network).layers
    other = tuple(draw.standard_normal(layer.shape).astype(np.float32) for layer in layers)
    save_network(Network(other, "public", {}), tmp_path / "public.safetensors")
    return "public.safetensors"


def test_images_are_served_in_order_and_the_rest_is_counted(
    run_here: Callable[..., Result], tiny_network: str, pictures: str, stand_in: str, tmp_path: Path
) -> None:
    plain = ("--model", tiny_network, "--data", pictures, "--images", "12", "--mu", "1e7")
    watched = ("--probation", "5", "--real-share", "0.4", "--stand-in", stand_in)
    own = json.loads(run_here("infer", *plain, "--json").stdout)
    found = json.loads(run_here("infer", *plain, *watched, "--json").stdout)
    # Light so bright that classes are those of the exact network, in any order of queries.
    assert found["accuracy"] == own["accuracy"]
    shown = found["probation"]
    assert (shown["practice_queries"], shown["served_queries"]) == (5, 12)
    assert shown["worthless_queries"] > 0
    queries = 5 + 12 + shown["worthless_queries"]
    # Bounds rest on the network's own light; checks judge that of all queries.
    assert found["verification"]["samples"] == 12 * (8 * 392 + 10 * 4)
    assert read_run(tmp_path / found["run_files"]["client"]).images.tolist() == list(range(12))
    run = read_run(tmp_path / found["run_files"]["server"])
    assert run.images.tolist() == list(range(12))
    assert len(run.raw("evidence", "layer0")) == 12
    assert len(run.raw("evidence", "stand-in-layer0")) == queries - 12


def test_the_ledger_charges_the_server_for_real_queries_and_the_client_for_every_send(
    run_here: Callable[..., Result], tiny_network: str, pictures: str, stand_in: str
) -> None:
    watched = ("--probation", "2", "--real-share", "0.3", "--stand-in", stand_in)
    booked = ("--ledger", "books", "--client", "alice")
    given = ("--model", tiny_network, "--data", pictures, "--images", "6")
    found = json.loads(run_here("infer", *given, *watched, *booked, "--json").stdout)
    assert found["ledger"]["queries"] == 6
    shown = json.loads(run_here("ledger", "show", "--ledger", "books", "--json").stdout)
    sends = [account["spent"]["queries"] for account in shown["client"]["accounts"]]
    assert sum(sends) == 6 + found["probation"]["worthless_queries"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--probation", "5"), "--stand-in = None: must be a network"),
        (("--stand-in", "reference"), "given with --probation or --real-share"),
        (
            ("--real-share", "0", "--stand-in", "reference"),
            "--real-share = 0.0: must be 0.0001 to 1",
        ),
        (("--probation", "-1", "--stand-in", "reference"), "--probation = -1"),
        (("--probation", "9999999999", "--stand-in", "reference"), "0 to 1000000"),
        (("--real-share", "1e-9", "--stand-in", "reference"), "--real-share = 1e-09"),
        (("--probation", "5", "--stand-in", "reference"), "of the network's own layers: 8 x 784"),
    ],
)
def test_what_is_no_probation_is_refused(
    options: tuple[str, ...],
    expected: str,
    tiny_network: str,
    pictures: str,
    refused: Callable[..., str],
) -> None:
    given = ("--model", tiny_network, "--data", pictures, "--images", "1")
    assert expected in refused("infer", *given, *options)
