"""A small network for commands about attacks, `labctl infer` on a few pictures, `labctl ledger`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from infer_runs import Infer, Result, object_of

from labctl.cli import ledger
from labctl.data.models import Network, save_network


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the file of a network for MNIST images that is quickly carried as light."""
    random = np.random.default_rng(0)
    layers = [random.standard_normal(size).astype(np.float32) for size in ((12, 784), (10, 12))]
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_network(Network(tuple(layers), "small", {}), path)
    return str(path)


@pytest.fixture
def infer(run_here: Callable[..., Result], tiny_network: str, pictures: str) -> Infer:
    """Run `labctl infer --json` with the tiny network on the twelve pictures."""

    def run(*arguments: str) -> dict[str, Any]:
        given = ("--model", tiny_network, "--data", pictures, "--images", "12")
        return object_of(run_here("infer", *given, *arguments, "--json"))

    return run


@pytest.fixture
def run_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run `labctl ledger` in an empty folder; return what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        capsys.readouterr()
        found = typer.main.get_command(ledger.app)
        with found.make_context("ledger", list(arguments)) as context:
            found.invoke(context)
        return capsys.readouterr().out

    return call
