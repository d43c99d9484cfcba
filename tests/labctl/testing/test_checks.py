"""The kit's checks catch what they are there for: drivers and panels spoilt in one place each."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import SettingError, StationFileError
from labctl.instruments.simulated import own_panels
from labctl.testing import Check, driver_checks, messages_in, panel_fuzz, panel_walk

PACKAGE = Path(__file__).resolve().parents[3] / "examples" / "my_lab"
BENCH = PACKAGE / "bench.toml"
ADDRESS = "TCPIP0::192.0.2.50::inst0::INSTR"

# What is spoilt: (text of the driver, what stands there instead, checks that fail for it).
SPOILT_DRIVERS = {
    "a class without words": ('"""A VoltageSource."""', "", "it_is_an_instrument"),
    "a unit is not named": (
        "    def safe_state(self)",
        '    def wait(self, duration_s: float) -> None:\n        """Wait."""\n\n'
        "    def safe_state(self)",
        "every_public",
    ),
    "a parameter of another name": ("self, voltage_v: float", "self, volts: float", "looks_like"),
    "open by position": ("address: str, *, library", "address: str, library", "it_is_opened"),
    "sends when made": (
        "self._scpi = ScpiSession(transport)",
        "self._scpi = ScpiSession(transport); transport.write('*CLS')",
        "made_with_its_defaults",
    ),
    "an option without a default": ("Field(default=10.0, gt=0)", "Field(gt=0)", "made_with"),
    "unknown options pass": (
        "read_options(VS1Options, name, options)",
        "VS1Options()",
        "an_unknown_option",
    ),
    "silence is a success": (
        'self._scpi.set("OUTP 0")',
        'self._scpi.transport.write("OUTP 0")',
        "silence_is_a_time_out",
    ),
    "an answer it did not ask for": (
        'return self._scpi.number("SOUR:VOLT?")',
        "return 0.0",
        "no_question_is_answered_by_silence",
    ),
    "garbage gets through": (
        'return self._scpi.number("SOUR:VOLT?")',
        'return float(self._scpi.transport.query("SOUR:VOLT?"))',
        "garbage_raises_no_surprise_from_any_question",
    ),
    "anybody is taken for it": (
        'return self._scpi.identify("VS1")',
        'self._scpi.transport.query("*IDN?"); return Identity("", "VS1", "", "")',
        "garbage_identifies_nobody",
    ),
    "any serial number is taken for its own": (
        "verified(source, address, source._scpi.forget_errors, source.identify)",
        "verified(source, address, source._scpi.forget_errors, lambda: str(source.identify()))",
        "another_instrument",
    ),
    "close sends": (
        "self._scpi.transport.close()",
        'self._scpi.transport.write("X"); self._scpi.transport.close()',
        "closing_twice",
    ),
    "never closed": ("self._scpi.transport.close()", "pass", "closing_twice"),
    "nobody is asked at opening": (
        "return verified(source, address, source._scpi.forget_errors, source.identify)",
        "return source",
        "a_silent_address_is_named",
    ),
    "another value is set": ("{voltage_v:.9g}", "{2 * voltage_v:.9g}", "as_VoltageSource"),
    "a wrong value is sent": (
        'require_range(self.name, "voltage_v", voltage_v, -limit_v, limit_v, "V")',
        "assert limit_v",
        "as_VoltageSource",
    ),
}
SPOILT_PANELS = {
    "an error of the declaration gets out": (
        "lambda _, voltage_v: self._adopt(replace(self._settings, voltage_v=voltage_v)),",
        "lambda _, voltage_v: self._adopt(replace(self._settings, voltage_v=voltage_v / 0)),",
    ),
}


Spoil = Callable[[str, str, str], Any]


@pytest.fixture
def spoil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """`spoil(name, old, new)`: the example's module `name` with `new` instead of `old`."""

    def make(name: str, old: str, new: str) -> Any:
        source = (PACKAGE / "my_lab" / f"{name}.py").read_text(encoding="utf-8")
        assert old in source
        path = tmp_path / f"{name}.py"
        path.write_text(source.replace(old, new), encoding="utf-8")
        spec = spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return make


@pytest.fixture
def panel_is(spoil: Spoil, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """`panel_is(old, new)`: make the example's panel known, spoilt."""

    def make(old: str, new: str) -> None:
        spoil("example_vs1_panel", old, new)
        point = EntryPoint("example_vs1", "example_vs1_panel:VS1Panel", own_panels.GROUP)
        monkeypatch.setattr(own_panels, "entry_points", lambda group: (point,))

    return make


@pytest.mark.parametrize("spoilt", SPOILT_DRIVERS)
def test_a_spoilt_driver_fails_the_check_that_is_for_it(
    spoilt: str, spoil: Spoil, panel_is: Callable[[str, str], None]
) -> None:
    old, new, check_name = SPOILT_DRIVERS[spoilt]
    panel_is("", "")
    driver = spoil("example_vs1", old, new).ExampleVS1
    checks = driver_checks(driver, bench=BENCH, address=ADDRESS)
    chosen = [check for check in checks if check_name in check.name]
    assert len(chosen) == 1
    assert fails(chosen[0])


def fails(check: Check) -> bool:
    """Whether a check fails: by an assertion, or by what the driver should not have raised."""
    try:
        check()
    except (Exception, pytest.fail.Exception):
        return True
    return False


def test_checks_have_names_of_their_own_and_a_class_without_a_panel_fewer(spoil: Spoil) -> None:
    driver = spoil("example_vs1", "", "").ExampleVS1
    alone = [check.name for check in driver_checks(driver)]
    both = [check.name for check in driver_checks(driver, bench=BENCH, address=ADDRESS)]
    assert len(set(both)) == len(both)
    assert both[: len(alone)] == alone
    assert len(both) > len(alone)
    with pytest.raises(ValueError, match="address: expected the panel's address"):
        driver_checks(driver, bench=BENCH)
    with pytest.raises(SettingError, match="example_vs9"):
        driver_checks("example_vs9")


def test_parts_of_an_outside_driver_are_checked_too(spoil: Spoil) -> None:
    class Monitor:
        """Reads the output back."""

        def __init__(self, scpi: Any) -> None:
            self._scpi = scpi

        def measured_v(self) -> float:
            """Return the measured voltage in V."""
            return float(self._scpi.transport.query("MEAS?"))

    made = "self._options = options or VS1Options()"
    module = spoil("example_vs1", made, f"{made}; self.monitor = Monitor(self._scpi)")
    module.Monitor, Monitor.__module__ = Monitor, "example_vs1"
    checks = {check.name: check for check in driver_checks(module.ExampleVS1)}
    with pytest.raises(ValueError, match="could not convert"):
        checks["garbage_raises_no_surprise_from_any_question"]()


def test_a_panel_that_lets_an_error_out_is_caught_with_its_seed(
    panel_is: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    panel_is(*SPOILT_PANELS["an error of the declaration gets out"])
    with pytest.raises(ZeroDivisionError) as walked:
        panel_walk(BENCH, "spare_source", steps=300, seed=3)
    assert "with seed 3" in walked.value.__notes__[-1]
    with pytest.raises(ZeroDivisionError) as drawn:
        panel_fuzz(BENCH, "spare_source", messages=2000, seed=4)
    assert "panel_fuzz of spare_source with seed 4" in drawn.value.__notes__
    assert "panel_fuzz of spare_source: seed 4, 2000 messages" in capsys.readouterr().out


def test_a_search_draws_what_its_seed_says(
    panel_is: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[bytes] = []
    panel_is("", "")
    write = sys.modules["example_vs1_panel"].ScpiCore.write

    def noted(core: Any, data: bytes, *, end: bool) -> None:
        said.append(data)
        write(core, data, end=end)

    monkeypatch.setattr(sys.modules["example_vs1_panel"].ScpiCore, "write", noted)

    def drawn(seed: int | None) -> list[bytes]:
        said.clear()
        panel_fuzz(BENCH, "spare_source", messages=100, seed=seed)
        return list(said)

    first = drawn(None)
    assert drawn(None) == first, "the same each time unless asked for otherwise"
    assert drawn(1) == first
    assert drawn(2) != first
    monkeypatch.setenv("LABCTL_FUZZ_SEED", "random")
    drawn(None)
    seed = int(capsys.readouterr().out.splitlines()[-1].split("seed ")[1].split(",")[0])
    assert drawn(seed) != first


def test_a_panel_that_is_not_on_the_bench_is_named(panel_is: Any) -> None:
    panel_is("", "")
    with pytest.raises(StationFileError, match=r"no panel 'spare'; there are: spare_source"):
        panel_fuzz(BENCH, "spare")


def test_messages_are_found_in_a_file_of_tests(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text("A = ':SOUR:VOLT 1'\nB = b'OUTP 1'\nC = 5\nD = ' no message'\n")
    assert messages_in(file, tmp_path / "absent.py") == (":SOUR:VOLT 1", "OUTP 1")
    shutil.rmtree(tmp_path)
