"""True parameters: drawn from the seed within the file's spread, and shown to tests alone."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from long_tests import long

import labctl.calibration
import labctl.instruments
from labctl.data import shipped_bench_path
from labctl.errors import StationFileError
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_file import build_bench, load_bench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.bench_truth import RELATIVE, BenchTruth, draw, truth_of

SHIPPED = shipped_bench_path().read_text(encoding="utf-8")
PATH = Path("bench.toml")
SPREAD: dict[str, float] = dict.fromkeys((*RELATIVE, "generator_gain", "digitizer_gain"), 0.02) | {
    "offset_rad": 0.3,
    "generator_offset_v": 1e-3,
    "digitizer_offset_v": 1e-3,
    "net_gain": 2e-3,
    "arm_phase_rad": 3e-3,
    "emission_factor": 0.1,
}


def table(seed: int = 1, **spread: float) -> BenchFile:
    content: dict[str, Any] = tomllib.loads(SHIPPED)
    for leg in ("forward", "back"):
        content[leg]["connector_loss_db"] = 0.3
    content["rotation"] |= {
        "loss_db_per_mode": 1e-4, "coupler_error_rad": 1e-3, "phase_error_rad": 2e-3
    }  # fmt: skip
    return BenchFile.model_validate(content | {"seed": seed, "spread": spread, "panels": {}})


def numbers(truth: BenchTruth) -> dict[str, float]:
    """Return every true value by its name."""
    return dict(leaves("", dataclasses.asdict(truth)))


def leaves(name: str, value: Any) -> Iterator[tuple[str, float]]:
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, tuple)
        else None
    )
    if parts is None:
        yield name, value
        return
    for key, part in parts:
        yield from leaves(f"{name}.{key}", part)


def test_without_a_spread_a_bench_is_what_its_file_says() -> None:
    bench = load_bench(shipped_bench_path())
    content = tomllib.loads(SHIPPED)
    truth = bench.truth()
    assert truth.v_pi_v == (3.5, 3.5, 7.0)
    assert truth.offset_rad == tuple(content["modulator"]["offset_rad"])
    assert truth.transmitter_loss_db == pytest.approx(6.0 + 0.7 + 40.0)
    assert truth.forward_transmittance == pytest.approx(10.0**-0.02)
    assert truth.forward_delay_s == pytest.approx(4.9e-6)
    for party in ("client", "server"):
        for name, value in dataclasses.asdict(getattr(truth, party)).items():
            if name in content[party]:
                assert value == pytest.approx(content[party][name], rel=1e-12)
        assert getattr(truth, party).digitizer_gain == (1.0, 1.0)
        assert getattr(truth, party).digitizer_offset_v == (0.0, 0.0)
    for name, tap in truth.taps.items():
        assert tap.fraction == content["taps"][name]["fraction"]
        assert tap.responsivity_a_w == content["taps"][name]["responsivity_a_w"]
    assert set(truth.generator_gain.values()) == {1.0}
    assert set(truth.generator_offset_v.values()) == {0.0}
    assert truth.attenuator_scale == 1.0


def test_the_components_are_what_the_truth_says() -> None:
    bench = build_bench(table(seed=5, **SPREAD), PATH)
    truth, optics = bench.truth(), bench.optics
    modulator = optics.modulator.parameters
    assert truth.v_pi_v == (modulator.v_pi_i_v, modulator.v_pi_q_v, modulator.v_pi_parent_v)
    assert truth.offset_rad == modulator.offset_rad
    assert truth.extinction_ratio_db == modulator.extinction_ratio_db
    assert truth.tap_fraction == optics.tap_fraction
    assert truth.signal_fraction == optics.signal_fraction
    assert truth.responsivity_a_w == optics.sensor.responsivity_a_w
    lost_db = modulator.insertion_loss_db + optics.fixed_attenuation_db
    lost_db -= 10.0 * math.log10(optics.attenuator.transmittance)
    assert truth.transmitter_loss_db == pytest.approx(lost_db)
    assert truth.forward_transmittance == optics.forward.transmittance
    assert truth.back_delay_s * 160e6 == pytest.approx(round(optics.back.delay_s * 160e6))
    unit = optics.rotation.parameters
    assert truth.gain_per_v == unit.gain_per_v
    assert (truth.emission_factor, truth.loss_db_per_mode) == (
        unit.emission_factor, unit.loss_db_per_mode
    )  # fmt: skip
    assert (truth.coupler_error_rad, truth.phase_error_rad) == (
        unit.coupler_error_rad, unit.phase_error_rad
    )  # fmt: skip
    assert truth.rin_db_hz == optics.rin_db_hz
    for name, one in (("client", truth.client), ("server", truth.server)):
        receiver = optics.receivers[name]
        detector = receiver.detector.parameters
        assert one.lo_fraction == receiver.lo_fraction
        assert one.lo_delay_s * 160e6 == pytest.approx(round(receiver.lo_delay_s * 160e6))
        assert one.phase_shifter_v_pi_v == receiver.phase_shifter.v_pi_v
        assert one.efficiency == detector.efficiency
        assert one.bandwidth_hz == detector.bandwidth_hz
        assert one.transimpedance_v_a == detector.transimpedance_v_a
        assert one.electronic_noise_a_rthz == detector.electronic_noise_a_rthz
        assert one.common_mode_rejection_db == detector.common_mode_rejection_db
        assert one.digitizer_gain == receiver.digitizer.gain
        assert one.digitizer_offset_v == receiver.digitizer.offset_v
    for name, tap in truth.taps.items():
        assert tap.fraction == optics.taps[name]


def test_every_true_value_differs_from_its_data_sheet_and_between_seeds() -> None:
    said = numbers(truth_of(table()))
    first, second = (numbers(truth_of(draw(table(seed, **SPREAD)))) for seed in (1, 2))
    for name, value in said.items():
        assert len({value, first[name], second[name]}) == 3, name


def test_the_same_seed_draws_the_same_bench() -> None:
    assert truth_of(draw(table(3, **SPREAD))) == truth_of(draw(table(3, **SPREAD)))


@pytest.mark.parametrize("key", SPREAD)
def test_each_spread_has_draws_of_its_own(key: str) -> None:
    """What one spread draws is what it draws beside all the others; it changes something."""
    said, alone, together = (
        numbers(truth_of(draw(table(4, **spread)))) for spread in ({}, {key: SPREAD[key]}, SPREAD)
    )
    changed = [name for name in said if alone[name] != said[name]]
    assert changed
    apart = [name for name in changed if "transmittance" not in name and "loss" not in name]
    assert [alone[name] for name in apart] == [together[name] for name in apart]


@pytest.mark.parametrize("seeds", [100, *long(400)])
def test_draws_are_normal_of_the_spread_around_the_data_sheet(seeds: int) -> None:
    """Ten values: mean and deviation (cut off at 3: 0.9866 of it), five errors.

    Of 400 seeds a mean a quarter of the spread away is seen, or a spread of a fifth more or less;
    of 100 one of half the spread, or two fifths.
    """
    said = truth_of(table())
    drawn = [truth_of(draw(table(seed, **SPREAD))) for seed in range(seeds)]
    for name, expected in (("efficiency", 0.02), ("electronic_noise_a_rthz", 0.02)):
        for party in ("client", "server"):
            nominal = getattr(getattr(said, party), name)
            ratios = [getattr(getattr(truth, party), name) / nominal for truth in drawn]
            assert np.mean(ratios) == pytest.approx(1.0, abs=5.0 * expected / math.sqrt(seeds))
            assert np.std(ratios) == pytest.approx(
                0.9866 * expected, rel=5.0 / math.sqrt(2 * seeds)
            )
            assert np.max(np.abs(np.array(ratios) - 1.0)) <= 3.0 * expected
    for place in range(3):
        away = [truth.offset_rad[place] - said.offset_rad[place] for truth in drawn]
        assert np.mean(away) == pytest.approx(0.0, abs=5.0 * 0.3 / math.sqrt(seeds))
        assert np.std(away) == pytest.approx(0.9866 * 0.3, rel=5.0 / math.sqrt(2 * seeds))
        assert np.std([truth.v_pi_v[place] for truth in drawn]) == pytest.approx(
            0.9866 * 0.02 * said.v_pi_v[place], rel=5.0 / math.sqrt(2 * seeds)
        )


@given(seed=st.integers(0, 2**63), spread=st.floats(0.0, 0.05))
@settings(deadline=None, max_examples=50)
def test_every_drawn_bench_is_one_that_a_file_may_describe(seed: int, spread: float) -> None:
    """0.05 is what the shipped efficiencies of 0.85 and shares of 0.8 leave room for."""
    drawn = draw(table(seed, **dict.fromkeys(RELATIVE, spread)))
    assert BenchFile.model_validate(drawn.model_dump()) == drawn
    shares = drawn.laser.signal_fraction + drawn.client.lo_fraction + drawn.server.lo_fraction
    assert shares <= 1.0


@pytest.mark.parametrize(
    ("key", "spread", "expected"),
    [
        ("efficiency", 0.1, "could draw client.efficiency = 0.85 above 1; must be at most 0.0588"),
        ("splitters", 0.1, "must be at most 0.7692, all light of the laser less three spreads"),
        ("v_pi", 0.5, "less than or equal to 0.3"),
        ("vpi", 0.1, "did you mean 'v_pi'?"),
        ("offset_rad", -0.1, "greater than or equal to 0"),
        ("detector_bandwidth", 0.03, "up to grid_hz / 2; must be below 0.0222"),
    ],
)
def test_a_spread_that_cannot_be_is_refused_with_its_line(
    tmp_path: Path, key: str, spread: float, expected: str
) -> None:
    path = tmp_path / "bench.toml"
    head = "\n[spread]"
    text = SHIPPED.replace(f"\n{key} = 0.0 ", "\n# ").replace(f"\n{key} = 0.0\n", "\n")
    end_of_line = text.index("\n", text.index(head) + 1)
    text = f"{text[:end_of_line]}\n{key} = {spread}{text[end_of_line:]}"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StationFileError) as caught:
        load_bench(path)
    message = str(caught.value)
    assert expected in message
    in_the_file = "laser.signal_fraction" if key == "splitters" else f"spread.{key}"
    assert in_the_file in message
    assert message.startswith(f"{path}:")


def test_a_seed_stands_in_for_the_files() -> None:
    path = shipped_bench_path()
    assert load_bench(path, seed=7).truth() == load_bench(path).truth()
    phases = [
        load_bench(path, seed=seed).optics.vacuum.normals(1)[0] for seed in (None, 20240805, 7)
    ]
    assert phases[0] == phases[1] != phases[2]


def test_a_bench_put_together_by_hand_has_no_file_to_differ_from() -> None:
    built = build_bench(table(), PATH)
    with pytest.raises(LookupError, match="not built from a file"):
        LinkBench(built.optics, built.grid_hz).truth()


def test_only_the_bench_itself_knows_of_the_truth() -> None:
    """No panel, door, driver or calibration asks for it, so nothing on the wire can tell it."""
    package = Path(labctl.instruments.__file__).parent
    simulated = package / "simulated"
    knowing = {simulated / f"bench{end}.py" for end in ("", "_file", "_truth", "_wiring")}
    asking = {
        path
        for folder in (package, Path(labctl.calibration.__file__).parent)
        for path in folder.rglob("*.py")
        if re.search(r"bench_truth|BenchTruth|\.truth\(|\.drawn\b", path.read_text("utf-8"))
    }
    assert asking == knowing


def test_another_run_of_a_bench_has_the_same_parts_and_noise_of_its_own(tmp_path: Path) -> None:
    """A real bench never repeats its noise; a simulated one does unless it is given the run."""
    benches = [build_bench(table(3, net_gain=2e-3), PATH, run=run) for run in (0, 0, 1)]
    vacua = [bench.optics.vacuum.normals(8).tolist() for bench in benches]
    assert vacua[0] == vacua[1] != vacua[2]
    assert numbers(benches[0].truth()) == numbers(benches[2].truth())
