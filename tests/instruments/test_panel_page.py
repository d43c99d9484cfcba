"""The page on writing front panels, followed: its panel answers the driver page's driver."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pyvisa

from labctl.data import shipped_bench_path
from labctl.errors import InstrumentReportedError, SettingError, StationFileError
from labctl.instruments.simulated import own_panels
from labctl.instruments.simulated.bench_file import load_bench
from labctl.instruments.simulated.doors.serving import Doors, Offer
from labctl.instruments.transports.visa_link import close_library

DOCS = Path(__file__).resolve().parents[2] / "docs"
ADDRESS = "TCPIP0::192.0.2.50::inst0::INSTR"


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def module_of(monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> dict[str, Any]:
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(source, name, "exec"), module.__dict__)
    return module.__dict__


@pytest.fixture
def panel(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the page's panel, made known by the entry point that the page has."""
    found = module_of(monkeypatch, "example_vs1_panel", blocks("panels.md", "python")[0])
    promised = blocks("panels.md", "toml")[0]
    assert 'example_vs1 = "my_lab.example_vs1_panel:VS1Panel"' in promised
    point = EntryPoint("example_vs1", "example_vs1_panel:VS1Panel", own_panels.GROUP)
    monkeypatch.setattr(own_panels, "entry_points", lambda group: (point,))
    return found["VS1Panel"]


@pytest.fixture
def bench(panel: Any, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "bench.toml"
    shipped = shipped_bench_path().read_text(encoding="utf-8")
    path.write_text(shipped + "\n" + blocks("panels.md", "toml")[1], encoding="utf-8")
    yield path
    close_library(f"{path}@labctl")


def changed(bench: Path, old: str, new: str) -> Path:
    text = bench.read_text(encoding="utf-8")
    head, tail = text.split("[panels.spare_source]")
    assert old in tail
    bench.write_text(f"{head}[panels.spare_source]{tail.replace(old, new)}", encoding="utf-8")
    return bench


def test_the_driver_of_the_other_page_finds_its_instrument(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = module_of(monkeypatch, "example_vs1", blocks("drivers.md", "python")[0])["ExampleVS1"]
    source = driver.open("spare", ADDRESS, library=f"{bench}@labctl", options={})
    assert source.identify().serial == "0001"
    source.set_voltage(2.5)
    assert source.voltage_v() == 2.5
    source.safe_state()
    source.close()


def test_a_script_that_knows_pyvisa_alone_talks_to_it(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(bench.parent)
    exec(compile(blocks("panels.md", "python")[2], "panels.md", "exec"), {})
    pyvisa.ResourceManager("bench.toml@labctl").close()
    assert capsys.readouterr().out == 'Example,VS1,0001,1.0 +0,"No error"\n'


def test_what_is_set_reaches_the_load(bench: Path) -> None:
    world = load_bench(bench)
    world.panels[ADDRESS].write(b":SOUR:VOLT 2.5;:OUTP 1\n", end=True)
    assert world.names[ADDRESS] == ("spare_source", "example_vs1")
    output: Any = world.panels[ADDRESS]
    assert output._output.held_v() == 2.5
    world.panels[ADDRESS].write(b"*RST\n", end=True)
    assert output._output.held_v() == 0.0


def test_the_model_limits_what_it_takes(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(bench, 'output = "resistor"', 'output = "resistor"\nmax_voltage_v = 2.0')
    driver = module_of(monkeypatch, "example_vs1", blocks("drivers.md", "python")[0])["ExampleVS1"]
    source = driver.open("spare", ADDRESS, library=f"{bench}@labctl", options={})
    with pytest.raises(InstrumentReportedError, match="-222"):
        source.set_voltage(2.5)
    source.close()


TWO_LOADS = """
[loads.left]
resistance_ohm = 1000.0
noise_v = 0.0
[loads.right]
resistance_ohm = 1000.0
noise_v = 0.0
[panels.two]
type = "example_vs2"
address = "TCPIP0::192.0.2.52::inst0::INSTR"
output_1 = "left"
output_2 = "right"
"""


def test_each_of_two_channels_has_its_own_settings_and_load(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = "\n".join(blocks("panels.md", "python")[:2])
    module_of(monkeypatch, "example_vs2_panel", both)
    points = (
        EntryPoint("example_vs1", "example_vs1_panel:VS1Panel", own_panels.GROUP),
        EntryPoint("example_vs2", "example_vs2_panel:VS2Panel", own_panels.GROUP),
    )
    monkeypatch.setattr(own_panels, "entry_points", lambda group: points)
    with bench.open("a", encoding="utf-8") as file:
        file.write(TWO_LOADS)
    panel: Any = load_bench(bench).panels["TCPIP0::192.0.2.52::inst0::INSTR"]

    def asked(message: bytes) -> bytes:
        panel.write(message + b"\n", end=True)
        reply: bytes = panel.read(1000)[0]
        return reply

    def held_v() -> list[float]:
        return [panel._outputs[number].held_v() for number in (1, 2)]

    panel.write(b":SOUR2:VOLT 2.5;:OUTP2 1\n", end=True)
    assert held_v() == [0.0, 2.5]
    panel.write(b":SOUR:VOLT 1;:OUTP1 1;:OUTP2 0\n", end=True)
    assert held_v() == [1.0, 0.0]
    assert float(asked(b":SOUR2:VOLT?")) == 2.5
    panel.write(b":SOUR3:VOLT 4\n", end=True)
    assert asked(b":SYST:ERR?").startswith(b"-114")
    assert held_v() == [1.0, 0.0]
    panel.write(b"*RST\n", end=True)
    assert held_v() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"resistor"', '"heater"', r"output = 'heater': no such load; there are: .*resistor"),
        ('output = "resistor"', "", "output: Field required"),
        ('output = "resistor"', 'output = "resistor"\ncolour = 1', "colour: Extra inputs"),
        ('"example_vs1"', '"example_vs3"', "example_vs3"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(
    bench: Path, old: str, new: str, fault: str
) -> None:
    changed(bench, old, new)
    with pytest.raises(StationFileError, match=rf"bench\.toml:\d+: .*{fault}"):
        load_bench(bench)


def test_a_load_can_be_wired_once(bench: Path) -> None:
    again = blocks("panels.md", "toml")[1].split("[panels.spare_source]")[1]
    with bench.open("a", encoding="utf-8") as file:
        file.write("[panels.another]" + again.replace("2.50", "2.51"))
    with pytest.raises(StationFileError, match=r"load 'resistor' is taken by panels\.spare_source"):
        load_bench(bench)


@pytest.mark.parametrize("broken", ["no_such_module:Panel", "example_vs1_panel:Settings"])
def test_a_panel_that_cannot_be_used_is_named(
    bench: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    point = EntryPoint("example_vs1", broken, own_panels.GROUP)
    monkeypatch.setattr(own_panels, "entry_points", lambda group: (point,))
    with pytest.raises(SettingError, match=f"example_vs1.*{broken}"):
        load_bench(bench)


def test_a_panel_of_labctl_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(group: str) -> Callable[[], None]:
        raise AssertionError(f"{group} was searched")

    monkeypatch.setattr(own_panels, "entry_points", searched)
    assert load_bench(shipped_bench_path()).panels


def test_other_programs_are_offered_it(bench: Path) -> None:
    async def offered() -> list[Offer]:
        async with Doors(load_bench(bench)) as doors:
            return [offer for offer in doors.offers if offer.name == "spare_source"]

    (offer,) = asyncio.run(offered())
    assert offer.panel == "example_vs1"
    assert offer.hislip is not None
    assert offer.socket is not None
