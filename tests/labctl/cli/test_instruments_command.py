"""`labctl instruments`: what there is and who answers, with nothing changed on the way."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labctl.cli.instruments import capabilities_of
from labctl.data import shipped_bench_path
from labctl.instruments import drivers
from labctl.instruments.transports.visa_transport import VisaTransport, close_library

Result = subprocess.CompletedProcess[str]
BENCH = f"{shipped_bench_path()}@labctl"
MONITOR = "USB0::0x1313::0x8078::P0000001::INSTR"


@pytest.fixture(autouse=True)
def _a_bench_of_its_own() -> Iterator[None]:
    yield
    close_library(BENCH)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return what is sent as text, by instrument, in the order of sending."""
    heard: list[tuple[str, str]] = []
    write, query = VisaTransport.write, VisaTransport.query

    def noted_write(self: VisaTransport, command: str) -> None:
        heard.append((self.name, command))
        write(self, command)

    def noted_query(self: VisaTransport, command: str) -> str:
        heard.append((self.name, command))
        return query(self, command)

    monkeypatch.setattr(VisaTransport, "write", noted_write)
    monkeypatch.setattr(VisaTransport, "query", noted_query)
    return heard


@pytest.fixture
def line() -> Iterator[tuple[str, int]]:
    """Return the address of a serial line, and the far end of it, where nobody answers."""
    far, near = os.openpty()
    tty.setraw(near)
    os.set_blocking(far, False)
    yield f"ASRL{os.ttyname(near)}::INSTR", far
    os.close(near)
    os.close(far)


def listed(result: Result, key: str, name: str) -> dict[str, dict[str, object]]:
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return {row[name]: row for row in json.loads(result.stdout)[key]}


def test_every_installed_driver_is_listed_with_what_it_can_do(
    run_here: Callable[..., Result],
) -> None:
    found = listed(run_here("instruments", "list", "--json"), "drivers", "driver")
    assert tuple(found) == drivers.names()
    assert all(row["kind"] and row["doc"] for row in found.values())
    assert found["thorlabs_pm100d"]["kind"] == "power meters"
    assert found["thorlabs_pm100d"]["capabilities"] == ["PowerMeter", "Restartable"]
    assert found["purephotonics_ppcl550"]["capabilities"] == ["Laser", "TunableLaser"]
    assert found["thorlabs_mx10b"]["capabilities"] == ["Attenuator", "ModulatorBias"]
    # Those of the channels that it hands out count.
    assert found["keysight_n7744a"]["capabilities"] == ["PowerMeter", "Restartable"]
    assert found["qontrol_q8iv"]["capabilities"] == ["SourceMeter", "VoltageSource"]


def test_the_list_for_people_names_every_driver(run_here: Callable[..., Result]) -> None:
    result = run_here("instruments", "list")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"{len(drivers.names())} drivers" in result.stdout


def test_a_driver_that_cannot_be_imported_says_so_among_the_others(
    monkeypatch: pytest.MonkeyPatch, run_here: Callable[..., Result]
) -> None:
    broken = importlib.metadata.EntryPoint("broken", "no_such_module:Driver", drivers.GROUP)
    monkeypatch.setattr(drivers, "entry_points", lambda group: (broken,))
    found = listed(run_here("instruments", "list", "--json"), "drivers", "driver")
    assert "no_such_module" in str(found["broken"]["doc"])
    assert found["broken"]["capabilities"] == []


def test_a_class_without_the_members_has_no_capability() -> None:
    assert capabilities_of(object) == []


def test_scanning_lists_and_sends_nothing(
    sent: list[tuple[str, str]], run_here: Callable[..., Result]
) -> None:
    result = run_here("instruments", "scan", "--library", BENCH, "--json")
    found = listed(result, "resources", "address")
    assert "ASRL1::INSTR" in found
    assert "TCPIP0::server-scope::hislip0::INSTR" in found
    assert {row["identity"] for row in found.values()} == {""}
    assert sent == []


def test_scanning_with_identify_asks_who_is_there_and_spares_serial_lines(
    sent: list[tuple[str, str]], run_here: Callable[..., Result]
) -> None:
    result = run_here("instruments", "scan", "--library", BENCH, "--identify", "--json")
    found = listed(result, "resources", "address")
    assert "DSO-X" in str(found["TCPIP0::server-scope::hislip0::INSTR"]["identity"])
    assert (found["ASRL2::INSTR"]["identity"], found["ASRL2::INSTR"]["note"]) == ("", "not asked")
    assert {command for _, command in sent} == {"*IDN?"}
    assert not any(name.startswith("ASRL") for name, _ in sent)


def test_serial_lines_are_asked_when_told_so_and_silence_is_noted(
    monkeypatch: pytest.MonkeyPatch, line: tuple[str, int], run_here: Callable[..., Result]
) -> None:
    address, far = line
    monkeypatch.setattr("labctl.cli.instruments._resources", lambda library: (address,))
    asks = ("instruments", "scan", "--library", "@py", "--identify", "--json")
    found = listed(run_here(*asks), "resources", "address")
    assert found[address]["note"] == "not asked"
    with pytest.raises(BlockingIOError):
        os.read(far, 100)
    result = run_here(*asks, "--serial", "--timeout-s", "0.05")
    found = listed(result, "resources", "address")
    assert "no answer" in str(found[address]["note"])
    assert os.read(far, 100) == b"*IDN?\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["scan", "--serial"], "--serial = True: must be given with --identify"),
        (["scan", "--gpib"], "--gpib = True: must be given with --identify"),
        (["scan", "--timeout-s", "0"], "--timeout-s = 0.0: must be above 0"),
        (["scan", "--timeout-s", "nan"], "--timeout-s = nan: must be above 0"),
        (["identify", "moon"], "NAME = 'moon': must be an instrument of "),
        (["identify"], "NAME = None: must be an instrument of "),
        (["identify", "monitor", "--address", "x"], "--address = 'x': must be given with --driver"),
        (["identify", "monitor", "--driver", "thorlabs_pm100d"], "must be left out beside"),
        (["identify", "--driver", "thorlabs_pm100d"], "--address = None: must be given"),
        (["identify", "--driver", "pm100", "--address", "x"], "driver = 'pm100': must be one of"),
        (["identify", "monitor", "--station", "absent.toml"], "absent.toml: cannot be read"),
        (["query", "monitor", ""], "COMMAND = '': must be one line"),
        (["query", "monitor", "*IDN?\n*RST"], "must be one line of printable ASCII"),
        (["query", "monitor", "µ?"], "must be one line of printable ASCII"),
        (["query", "server_laser", "*IDN?"], "this one has none"),
        (["query", "moon", "*IDN?"], "NAME = 'moon'"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    arguments: list[str], told: str, refused: Callable[..., str]
) -> None:
    assert told in refused("instruments", *arguments)


def test_a_library_that_is_not_there_is_a_failure(refused: Callable[..., str]) -> None:
    assert "absent" in refused("instruments", "scan", "--library", "absent.so@ivi", code=1)


@pytest.mark.parametrize("name", ["monitor", MONITOR, MONITOR.lower()])
def test_an_instrument_is_identified_by_name_or_address(
    name: str, sent: list[tuple[str, str]], run_here: Callable[..., Result]
) -> None:
    result = run_here("instruments", "identify", name, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "instrument": "monitor",
        "driver": "thorlabs_pm100d",
        "address": MONITOR,
        "maker": "THORLABS",
        "model": "PM100D",
        "serial": "P0000001",
        "firmware": "2.7.0",
    }
    assert {command for _, command in sent} == {"*CLS", "*IDN?"}


def test_an_instrument_is_identified_by_driver_and_address(
    run_here: Callable[..., Result],
) -> None:
    where = ("--driver", "thorlabs_mx10b", "--address", "ASRL2::INSTR", "--library", BENCH)
    result = run_here("instruments", "identify", *where)
    assert (result.returncode, result.stderr) == (0, "")
    assert "T00400001" in result.stdout


def test_an_instrument_that_is_identified_stays_as_it_was(
    demo_station: Path, run_here: Callable[..., Result]
) -> None:
    """A generator whose output is on keeps it on: identify and query reach no safe state."""
    from labctl.instruments.generators.keysight_33512b import Keysight33512B

    library = f"{demo_station.with_name('demo_bench.toml').resolve()}@labctl"
    address = "TCPIP0::client-phase::hislip0::INSTR"
    generator = Keysight33512B.open("before", address, library=library, options={})
    generator.hold_voltage(1, 1.25)
    generator.close()
    of_mine = ("--station", demo_station.name)
    assert run_here("instruments", "identify", "client_phase", *of_mine).returncode == 0
    result = run_here("instruments", "query", "client_phase", "OUTP1?;:SOUR1:VOLT:OFFS?", *of_mine)
    close_library(library)
    assert result.returncode == 0, result.stderr
    output, _, voltage_v = result.stdout.strip().partition(";")
    assert (int(output), float(voltage_v)) == (1, 1.25)


def test_a_raw_query_prints_the_reply(run_here: Callable[..., Result]) -> None:
    result = run_here("instruments", "query", "monitor", "SENS:CORR:WAV?", "--json")
    found = json.loads(result.stdout)
    assert (found["instrument"], found["command"]) == ("monitor", "SENS:CORR:WAV?")
    assert 800 <= float(found["reply"]) <= 1700


def test_a_query_that_nobody_answers_is_a_failure_that_names_it(
    refused: Callable[..., str],
) -> None:
    line = refused("instruments", "query", "monitor", "NONSENSE?", code=1)
    assert "monitor: no answer from" in line
    assert "NONSENSE?" in line


def test_an_address_where_nobody_is_is_a_failure(refused: Callable[..., str]) -> None:
    where = ("--driver", "thorlabs_pm100d", "--address", "ASRL77::INSTR", "--library", BENCH)
    assert "ASRL77::INSTR" in refused("instruments", "identify", *where, code=1)
