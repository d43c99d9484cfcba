"""Bench files: the shipped one is valid, errors name file and key, seeds are streams."""

import copy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.data import shipped_bench_path, shipped_fleet_path
from labctl.errors import StationFileError
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_file import build_bench, load_bench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.panels.itla import ITLAPanel
from labctl.instruments.simulated.panels.keysight_33500 import Keysight33500Panel
from labctl.instruments.simulated.panels.keysight_infiniivision import InfiniiVisionPanel
from labctl.instruments.simulated.panels.keysight_n7744a import KeysightN7744APanel
from labctl.instruments.simulated.panels.thorlabs_mx10b import ThorlabsMX10BPanel
from labctl.instruments.simulated.panels.thorlabs_pm100d import ThorlabsPM100DPanel
from labctl.instruments.simulated.physics.grid import Window
from labctl.instruments.simulated.ports import Capture, CaptureWindow, ChannelWindow
from labctl.station.file import read_station_file

SHIPPED = shipped_bench_path().read_text(encoding="utf-8")
PATH = Path("bench.toml")
Tables = dict[str, Any]


def built(change: Callable[[Tables], object] = lambda tables: None) -> LinkBench:
    tables = copy.deepcopy(tomllib.loads(SHIPPED))
    change(tables)
    return build_bench(BenchFile.model_validate(tables), PATH)


def record(bench: LinkBench) -> dict[str, npt.NDArray[np.float32]]:
    """Return what both digitizers read: 2,000 samples of little signal, local oscillators on."""
    bench.optics.laser.set_emission(True, 0.02, 193.4e12)
    bench.optics.attenuator.set_attenuation(60.0)
    got: dict[str, npt.NDArray[np.float32]] = {}

    def keep(name: str) -> Callable[[Capture], None]:
        return lambda capture: got.update({name: capture[1]})

    window = CaptureWindow(0.0, 160e6, 2000, {1: ChannelWindow(0.5, 0.0)})
    for name in ("client", "server"):
        bench.digitizer_at(name).arm(window, keep(name))
    bench.trigger.fire()
    return got


def refusal(folder: Path, old: str, new: str) -> str:
    """Return the error for the shipped file with one part replaced."""
    assert SHIPPED.count(old) >= 1
    path = folder / "bench.toml"
    path.write_text(SHIPPED.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(StationFileError) as caught:
        load_bench(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path))


def line_of(part: str) -> int:
    return SHIPPED[: SHIPPED.index(part)].count("\n") + 1


def test_the_shipped_bench_stands_with_a_panel_at_each_address() -> None:
    bench = load_bench(shipped_bench_path())
    tables = tomllib.loads(SHIPPED)
    kinds = {
        "itla": ITLAPanel,
        "keysight_33500": Keysight33500Panel,
        "thorlabs_mx10b": ThorlabsMX10BPanel,
        "thorlabs_pm100d": ThorlabsPM100DPanel,
        "keysight_infiniivision": InfiniiVisionPanel,
        "keysight_n7744a": KeysightN7744APanel,
    }
    expected = {panel["address"]: kinds[panel["type"]] for panel in tables["panels"].values()}
    assert {address: type(panel) for address, panel in bench.panels.items()} == expected
    assert bench.grid_hz == tables["grid_hz"]
    assert bench.clock.now_s() == 0.0


def test_an_unknown_key_is_told_with_its_line_and_the_nearest_key(tmp_path: Path) -> None:
    message = refusal(tmp_path, "linewidth_hz = 100.0", "linewidht_hz = 100.0")
    assert message.startswith(f":{line_of('linewidth_hz')}: ")
    assert "unknown key 'laser.linewidht_hz'" in message
    assert "did you mean 'linewidth_hz'?" in message


def test_an_unknown_key_of_a_panel_is_told_with_those_of_its_type(tmp_path: Path) -> None:
    key = 'bias = "child_q"'
    message = refusal(tmp_path, key, 'bais = "child_q"')
    assert message.startswith(f":{line_of(key)}: ")
    assert "'panels.bias_q.bais'; did you mean 'bias'?" in message


def test_an_unknown_type_of_panel_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    message = refusal(tmp_path, 'type = "itla"', 'type = "ilta"')
    assert message.startswith(f":{line_of('[panels.server_laser]')}: ")
    assert "panels.server_laser" in message
    for kind in ("itla", "keysight_33500", "thorlabs_mx10b", "thorlabs_pm100d"):
        assert repr(kind) in message


def test_an_address_that_is_taken_is_told_with_the_panel(tmp_path: Path) -> None:
    message = refusal(tmp_path, '"ASRL3::INSTR"', '"ASRL2::INSTR"')
    assert message.startswith(f":{line_of('ASRL3::INSTR')}: panels.bias_q.address: ")
    assert "'ASRL2::INSTR' is taken by panels.bias_i.address" in message


def test_an_unknown_drive_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    output = '2 = "modulator_q"'
    message = refusal(tmp_path, output, '2 = "modulator_x"')
    assert message.startswith(f":{line_of(output)}: ")
    assert "panels.server_generator.outputs.2 = 'modulator_x'" in message
    assert "'modulator_q'" in message


def test_an_output_that_the_generator_has_not_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, '2 = "modulator_q"', '3 = "modulator_q"')
    assert "panels.server_generator.outputs" in message


@pytest.mark.parametrize(
    ("table", "wrong_hz"),
    [
        ("generators", 80e6),
        ("generators", 1e9),
        ("client", 80e6),
        ("server", 160e6),
        ("server", 1.0),
        ("generators", 159e3),
    ],
)
def test_a_bandwidth_that_the_grid_cannot_hold_is_refused(table: str, wrong_hz: float) -> None:
    with pytest.raises(StationFileError, match=rf"^{PATH}: {table}\.bandwidth_hz = .*8e\+07$"):
        built(lambda tables: tables[table].update(bandwidth_hz=wrong_hz))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bandwidth_hz = 40e6", "bandwidth_hz = 90e6"),
        ("symbol_rate_hz = 20e6", "symbol_rate_hz = 21e6"),
        ("signal_fraction = 0.1", "signal_fraction = 0.4"),
    ],
)
def test_what_does_not_fit_together_is_told_with_its_line(
    tmp_path: Path, old: str, new: str
) -> None:
    message = refusal(tmp_path, old, new)
    assert message.startswith(f":{line_of(old)}: ")
    assert f".{old.partition(' ')[0]}" in message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            '2 = "modulator_q"',
            '2 = "modulator_i"',
            "panels.server_generator.outputs.2: drive 'modulator_i' is taken by "
            "panels.server_generator.outputs.1; each can be wired once",
        ),
        (
            '2 = "client_gain"',
            '2 = "rotation_real"',
            "panels.client_phase.outputs.2: drive 'rotation_real' is taken by "
            "panels.client_generator.outputs.1; each can be wired once",
        ),
        (
            'bias = "child_q"',
            'bias = "child_i"',
            "panels.bias_q.bias: the controller of electrode 'child_i' is taken by "
            "panels.bias_i.bias; each can be wired once",
        ),
        (
            'bias = "child_q"',
            'bias = "child_q"\nattenuator = true',
            "panels.bias_q.attenuator: the link's attenuator is taken by panels.bias_i.attenuator; "
            "each can be wired once",
        ),
        (
            '2 = "rotation_imaginary"',
            '2 = "spare_1"',
            "panels.client_generator.outputs.1 = 'rotation_real': no output drives "
            "'rotation_imaginary'; the two work only together",
        ),
        (
            '1 = "modulator_i"',
            '1 = "spare_1"',
            "panels.server_generator.outputs.2 = 'modulator_q': no output drives 'modulator_i'; "
            "the two work only together",
        ),
        (
            'trigger = "sends"',
            'trigger = "none"',
            "panels.client_generator.trigger = 'receives': no generator sends; "
            'set trigger = "sends" on one',
        ),
    ],
)
def test_a_wiring_mistake_is_told_with_its_line_and_the_remedy(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    message = refusal(tmp_path, old, new)
    line, _, words = message[1:].partition(": ")
    assert words == expected
    key = expected.partition(":")[0].partition(" = ")[0]
    table = key.rsplit(".outputs", 1)[0] if ".outputs" in key else key.rpartition(".")[0]
    assert int(line) > line_of(f"[{table}]")


SECOND_LASER = """
[panels.second]
type = "itla"
address = "ASRL9::INSTR"
"""
FLEET_MISTAKES = [
    (SECOND_LASER, "panels.second: the link's laser is taken by panels.server_laser; "),
    (
        SECOND_LASER.replace("itla", "santec_tsl570") + 'probe = "comb"\n',
        "panels.second.probe: the laser of probe 'comb' is taken by panels.tunable_laser.probe; ",
    ),
    (
        SECOND_LASER.replace("itla", "oz_optics_dd100") + 'probe = "sweep"\n',
        "panels.second.probe: the attenuator of probe 'sweep' is taken by "
        "panels.probe_attenuator.probe; ",
    ),
    (
        SECOND_LASER.replace("itla", "oz_optics_dd100") + 'probe = "swep"\n',
        "panels.second.probe = 'swep': no such probe; there are: sweep, comb",
    ),
    (
        SECOND_LASER.replace("itla", "keysight_n7744a") + 'inputs = { 4 = "combo" }\n',
        "panels.second.inputs.4 = 'combo': no such input; there are: sweep, comb, monitor",
    ),
    (
        SECOND_LASER.replace("itla", "keithley_2450") + 'output = "heater_1"\n',
        "panels.second.output: load 'heater_1' is taken by panels.heaters.outputs.6; ",
    ),
    (
        SECOND_LASER.replace("itla", "keysight_e36312a") + 'outputs = { 1 = "heater_3" }\n',
        "panels.second.outputs.1 = 'heater_3': no such load; "
        "there are: parent_bias, heater_1, heater_2, detector_supply",
    ),
    (
        '\n[loads.other]\nresistance_ohm = 1.0\nnoise_v = 0.0\nelectrode = "parent"\n',
        "loads.other.electrode: electrode 'parent' has load 'parent_bias' already; each takes one",
    ),
    (
        "\n[probes.monitor]\nlinewidth_hz = 0.0\nrin_db_hz = -150.0\ninsertion_loss_db = 0.0\n",
        "probes.monitor: this name is the link's monitor tap; take another",
    ),
]


@pytest.mark.parametrize(("added", "expected"), FLEET_MISTAKES)
def test_what_is_added_to_a_full_bench_cannot_take_a_used_connector(
    tmp_path: Path, added: str, expected: str
) -> None:
    fleet = shipped_fleet_path().read_text(encoding="utf-8")
    path = tmp_path / "fleet.toml"
    path.write_text(fleet + added, encoding="utf-8")
    with pytest.raises(StationFileError) as caught:
        load_bench(path)
    at, _, words = str(caught.value).removeprefix(f"{path}:").partition(": ")
    assert words.startswith(expected)
    assert int(at) > fleet.count("\n") + 1


@given(
    bandwidths_hz=st.tuples(*[st.floats(160e3, 80e6, exclude_max=True)] * 3),
)
@settings(deadline=None, max_examples=25)
def test_any_other_bandwidth_stands(bandwidths_hz: tuple[float, float, float]) -> None:
    def change(tables: Tables) -> None:
        names = ("generators", "client", "server")
        for name, bandwidth_hz in zip(names, bandwidths_hz, strict=True):
            tables[name]["bandwidth_hz"] = bandwidth_hz

    bench = built(change)
    assert bench.settling_samples >= 2.0 * 160e6 / min(bandwidths_hz)


@pytest.mark.parametrize("symbol_rate_hz", [80e6, 53.4e6, 15e6, 20.0001e6, 40.1e6, 320e6])
def test_a_slot_is_a_whole_number_of_samples_and_at_least_four(symbol_rate_hz: float) -> None:
    with pytest.raises(
        StationFileError, match=rf"{PATH}: rotation\.symbol_rate_hz = .*grid_hz.*4 or more"
    ):
        built(lambda tables: tables["rotation"].update(symbol_rate_hz=symbol_rate_hz))


@pytest.mark.parametrize(("symbol_rate_hz", "slot"), [(40e6, 4), (160e6 / 7, 7), (1e6, 160)])
def test_whole_slots_stand(symbol_rate_hz: float, slot: int) -> None:
    bench = built(lambda tables: tables["rotation"].update(symbol_rate_hz=symbol_rate_hz))
    assert bench.optics.rotation.parameters.slot_samples == slot


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("efficiency = 0.85", "efficiency = 1.2"),
        ("seed = 20240805", "seed = -1"),
        ("storage_s = 20e-6", "storage_s = -1e-6"),
        ("linewidth_hz = 100.0", "linewidth_hz = nan"),
        ("grid_hz = 160e6", "grid_hz = inf"),
        ("emission_factor = 1.0", "emission_factor = 0.9"),
        ("offset_rad = [0.41, -0.83, 0.22]", "offset_rad = [0.41, -0.83]"),
        ("bits = 16", "bits = 16.5"),
    ],
)
def test_values_that_nature_does_not_allow_are_refused(tmp_path: Path, old: str, new: str) -> None:
    key = new.partition(" ")[0]
    message = refusal(tmp_path, old, new)
    assert message.startswith(f":{line_of(old)}: ")
    assert key in message


def test_the_same_seed_gives_the_same_record_bit_by_bit() -> None:
    first, second = record(built()), record(built())
    for name in ("client", "server"):
        assert np.array_equal(first[name], second[name])


def test_another_seed_gives_other_noise_of_the_same_size() -> None:
    """2,000 samples: five standard errors of a ratio of deviations, 5/sqrt(m) = 11 %."""
    first = record(built())
    second = record(built(lambda tables: tables.update(seed=7)))
    for name in ("client", "server"):
        assert not np.array_equal(first[name], second[name])
        assert np.std(first[name]) == pytest.approx(np.std(second[name]), rel=5.0 / np.sqrt(2000))


def without_panels(tables: Tables) -> None:
    tables["panels"] = {}


def one_more_panel(tables: Tables) -> None:
    tables["panels"]["spare"] = {"type": "thorlabs_pm100d", "address": "USB0::1::2::3::INSTR"}
    spare_scope = {"type": "keysight_infiniivision", "receiver": "client"}
    tables["panels"]["spare_scope"] = {**spare_scope, "address": "TCPIP0::s::hislip0::INSTR"}


@pytest.mark.parametrize("change", [without_panels, one_more_panel])
def test_what_else_stands_on_the_bench_changes_no_stream(
    change: Callable[[Tables], object],
) -> None:
    expected, actual = record(built()), record(built(change))
    for name in ("client", "server"):
        assert np.array_equal(actual[name], expected[name])


def test_each_component_has_a_stream_of_its_own() -> None:
    """512 numbers each: no two sources of a bench share any."""
    optics = built().optics
    sources = [optics.vacuum]
    for receiver in optics.receivers.values():
        sources.append(receiver.noise)
    drawn = [tuple(source.normals(512)) for source in sources]
    drifts = [r.drift.phase(Window(0, 1))[0] for r in optics.receivers.values()]
    assert len(set(drawn)) == len(drawn)
    assert len({value for numbers in drawn for value in numbers}) == 512 * len(drawn)
    assert drifts[0] != drifts[1]


@pytest.mark.parametrize("name", ["demo", "lab"])
def test_every_shipped_station_has_its_bench(name: str) -> None:
    station = read_station_file(shipped_bench_path().with_name(f"{name}.toml"))
    bench = load_bench(shipped_bench_path().with_name(f"{name}_bench.toml"))
    assert {table.address for table in station.instruments.values()} == set(bench.panels)


def test_the_laboratorys_bench_is_not_what_its_data_sheets_say() -> None:
    lab = load_bench(shipped_bench_path().with_name("lab_bench.toml")).truth()
    said = load_bench(shipped_bench_path()).truth()
    assert all(true != nominal for true, nominal in zip(lab.v_pi_v, said.v_pi_v, strict=True))
    assert lab.client.efficiency != said.client.efficiency
    assert lab.generator_gain != said.generator_gain
