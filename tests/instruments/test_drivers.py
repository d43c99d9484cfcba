"""Drivers are found by name; each can be opened, and none pretends that silence is a success."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import tomllib
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.errors import ConnectionFailedError, SettingError
from labctl.instruments import drivers

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
SHIPPED: dict[str, str] = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"][
    "entry-points"
][drivers.GROUP]
ALL = tuple(sorted(SHIPPED))


@pytest.fixture
def silent_line() -> Iterator[str]:
    far, near = os.openpty()
    tty.setraw(near)
    yield f"ASRL{os.ttyname(near)}::INSTR"
    os.close(near)
    os.close(far)


def test_the_shipped_drivers_are_found() -> None:
    assert set(ALL) <= set(drivers.names())
    for name, value in SHIPPED.items():
        driver = drivers.load(name)
        assert f"{driver.__module__}:{driver.__name__}" == value


def test_every_class_that_opens_an_instrument_is_shipped_as_a_driver() -> None:
    folders = {value.split(":")[0].rpartition(".")[0] for value in SHIPPED.values()}
    found = {
        f"{module.__name__}:{name}"
        for folder in map(importlib.import_module, folders)
        for each in pkgutil.iter_modules(folder.__path__, f"{folder.__name__}.")
        for module in [importlib.import_module(each.name)]
        for name, kind in vars(module).items()
        if isinstance(kind, type) and kind.__module__ == module.__name__ and hasattr(kind, "open")
    }
    assert found == set(SHIPPED.values())


@pytest.mark.parametrize(
    ("name", "near"),
    [("thorlabs_pm100", "thorlabs_pm100d"), ("Keysight-33512B", "keysight_33512b")],
)
def test_a_misspelt_driver_gets_a_suggestion(name: str, near: str) -> None:
    with pytest.raises(SettingError, match=f"did you mean '{near}'"):
        drivers.load(name)


@pytest.mark.parametrize("name", ["", "oscillator!", "os.system"])
def test_an_unknown_driver_gets_the_list(name: str) -> None:
    with pytest.raises(SettingError, match=r"one of .*purephotonics_ppcl550"):
        drivers.load(name)


def test_a_driver_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = importlib.metadata.EntryPoint("broken", "no_such_module:Driver", drivers.GROUP)
    monkeypatch.setattr(drivers, "entry_points", lambda group: (broken,))
    with pytest.raises(SettingError, match="no_such_module"):
        drivers.load("broken")


@pytest.mark.parametrize("name", ALL)
def test_an_unknown_option_gets_the_valid_ones(name: str) -> None:
    with pytest.raises(SettingError, match=r"dut option colour = 'red': .* timeout_s"):
        drivers.load(name).open("dut", "ASRL1::INSTR", library="@py", options={"colour": "red"})


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [0, -1.0, "5", None, True, float("nan"), float("inf")])
def test_a_time_out_must_be_a_positive_number(name: str, value: object) -> None:
    with pytest.raises(SettingError, match="dut option timeout_s = "):
        drivers.load(name).open("dut", "ASRL1::INSTR", library="@py", options={"timeout_s": value})


@pytest.mark.parametrize("name", ALL)
def test_an_absent_address_is_a_connection_error(name: str) -> None:
    with pytest.raises(ConnectionFailedError, match="dut: cannot open ASRL/dev/none::INSTR"):
        drivers.load(name).open("dut", "ASRL/dev/none::INSTR", library="@py", options={})


@pytest.mark.parametrize("name", ALL)
def test_a_silent_address_is_a_connection_error_with_advice(name: str, silent_line: str) -> None:
    with pytest.raises(ConnectionFailedError, match=f"dut: {silent_line} opened but nothing"):
        drivers.load(name).open("dut", silent_line, library="@py", options={"timeout_s": 0.1})
