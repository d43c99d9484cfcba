"""The page on writing drivers: its example is a driver, word for word."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from labctl.errors import LimitError, ReplyError, SettingError
from labctl.instruments.capabilities import Instrument, VoltageSource
from labctl.testing.scripts import ScriptedTransport

PAGE = Path(__file__).resolve().parents[2] / "docs" / "drivers.md"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    module = ModuleType("example_vs1")
    monkeypatch.setitem(sys.modules, "example_vs1", module)
    exec(compile(blocks[0], str(PAGE), "exec"), module.__dict__)
    return module.__dict__["ExampleVS1"]


def test_the_example_sets_reads_back_and_switches_off(
    example: Any, accepted: Callable[..., list[Any]]
) -> None:
    wire = ScriptedTransport(
        [
            ("*IDN?", "Example,VS1,1,1"),
            *accepted("SOUR:VOLT 1.5", "OUTP 1"),
            ("SOUR:VOLT?", "1.5"),
            *accepted("OUTP 0"),
        ]
    )
    source = example(wire)
    assert isinstance(source, VoltageSource)
    assert isinstance(source, Instrument)
    assert source.identify().model == "VS1"
    source.set_voltage(1.5)
    assert source.voltage_v() == 1.5
    source.safe_state()
    wire.finish()


@pytest.mark.parametrize("voltage_v", [10.1, -10.1, float("nan"), float("inf")])
def test_the_example_refuses_before_it_sends(example: Any, voltage_v: float) -> None:
    wire = ScriptedTransport([])
    with pytest.raises(LimitError, match="-10 to 10 V"):
        example(wire).set_voltage(voltage_v)
    assert wire.sent == []


def test_the_example_knows_its_options_and_its_model(example: Any) -> None:
    with pytest.raises(SettingError, match="option colour"):
        example.open("dut", "x", library="@py", options={"colour": 1})
    with pytest.raises(ReplyError, match="expected a VS1"):
        example(ScriptedTransport([("*IDN?", "Example,VS2,1,1")])).identify()
