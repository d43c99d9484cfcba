"""What a bench session does not know exactly: which constants, by which records."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from labctl.calibration.distributions import Shape
from labctl.calibration.knowledge import NOTHING, Knowledge
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.data import shipped_station_path
from labctl.protocols.bench_doubts import bench_doubts, lo_excess_noise
from labctl.protocols.server.transmitter import Level
from labctl.protocols.verification.doubts import Doubts, Source
from labctl.station.file import ServerConstants, StationFile
from labctl.toml_file import read_toml

Doubles = npt.NDArray[np.float64]

LEVEL = Level(mean_photons=0.7, attenuation_db=20.0, relative_error=0.002, readings=48)
CALIBRATION = ReceiverCalibration(0.83, 0.06, 2.0, 100_000, electronic_samples=5000)
RECORDS = {"efficiency": "e1", "photon_number": "p1", "attenuator": "a1", "channel": "c1"}
KNOWLEDGE = Knowledge(
    {
        Name("server.efficiency"): Quantity.of(
            0.83, "1", {"reference meter": 0.0249, "records": 0.002}
        ),
        Name("server.fixed_attenuation_db"): Quantity.of(41.0, "dB", {"launch meter": 0.13}),
        Name("server.attenuator_slope"): Quantity.of(1.0, "1", {"readings": 2e-4}),
        Name("server.transmittance"): Quantity.of(
            0.9,
            "1",
            {"records": 0.002, "photon number": 0.027, "efficiency": 0.027},
            degrees_of_freedom={"records": 11},
        ),
        Name("server.lo_excess_noise"): Quantity.of(0.0004, "SNU", {"fit": 0.0003}),
    },
    RECORDS,
    foundations={"channel": {name: each for name, each in RECORDS.items() if name != "channel"}},
)


def constants() -> ServerConstants:
    table: StationFile = read_toml(shipped_station_path(), StationFile)
    return table.server.constants


def doubts(knowledge: Knowledge) -> Doubts:
    return bench_doubts(LEVEL, CALIBRATION, knowledge, constants())


def whole(sources: tuple[Source, ...]) -> float:
    return math.hypot(*(source.relative for source in sources))


def test_light_and_unit_are_as_doubtful_as_their_calibration() -> None:
    found = doubts(KNOWLEDGE)
    per_db = math.log(10.0) / 10.0
    assert whole(found.light) == pytest.approx(
        math.hypot(0.002, per_db * 0.13, per_db * 20.0 * 2e-4)
    )
    electronic = 0.06 * math.sqrt(2.0 / 4999.0)
    excess = 0.0003 / 1.0004
    assert whole(found.unit) == pytest.approx(
        math.hypot(0.0249 / 0.83, 0.002 / 0.83, electronic, excess)
    )


# Of the lights that a unit rests on: relative errors of what the efficiency's meter says and of its
# blocked receiver, standard uncertainty of the intensity noise x, whose truth is 0.05 SNU.
METER, BLOCKED, EXCESS, EXCESS_ERROR = 0.01, 0.002, 0.05, 0.02


def with_unit_of(balance: str) -> Knowledge:
    """Knowledge of a bench whose efficiency and link rest on the record "b1" of `balance`."""
    earlier = {**KNOWLEDGE.foundations["channel"], "balance": "b1", "shot_noise": "s1"}
    error = EXCESS_ERROR / (1.0 + EXCESS)
    unit = math.hypot(BLOCKED, error)
    efficiency = {"reference meter": 0.83 * METER, "shot-noise unit": 0.83 * unit}
    transmittance = {
        "records": 0.0009,
        "photon number": 0.027,
        "efficiency": 0.9 * math.hypot(METER, unit),
        "shot-noise unit": 0.9 * unit,
    }
    return replace(
        KNOWLEDGE,
        quantities={
            **KNOWLEDGE.quantities,
            Name("server.efficiency"): Quantity.of(0.83, "1", efficiency),
            Name("server.transmittance"): Quantity.of(
                0.9, "1", transmittance, degrees_of_freedom={"records": 11}
            ),
            Name("server.lo_excess_noise"): Quantity.of(EXCESS, "SNU", {"fit": EXCESS_ERROR}),
            Name("server.shot_noise_v2"): Quantity.of(
                1.0, "V^2", {"blocked variance": BLOCKED, "excess noise": error}
            ),
        },
        records={**RECORDS, "balance": balance, "shot_noise": "s1"},
        foundations={"efficiency": earlier, "channel": earlier},
    )


@pytest.mark.parametrize(
    ("balance", "times"), [("b1", 0), ("b2", 2)], ids=["same record", "measured again"]
)
def test_intensity_noise_is_in_the_unit_only_if_it_was_measured_twice(
    balance: str, times: int
) -> None:
    """40,000 benches, seed 6: the scatter of stated over true photons is known to 0.4 %.

    Efficiency found as A^2/(4 S N), then photons of a session counted as A^2/(4 eta S). What is
    stated counts the error of x as often as it comes in, and in the efficiency's unit always.
    """
    draw = np.random.default_rng(6)

    def stated(error: float) -> Doubles:
        return np.asarray(1.0 + error * draw.standard_normal(40_000))

    shot, x, electronic = 2.0, EXCESS, 0.06 * 2.0
    found = [EXCESS + EXCESS_ERROR * draw.standard_normal(40_000) for _ in range(2)]
    if balance == "b1":
        found[1] = found[0]
    light = shot * (1.0 + x)
    calibrated = light * stated(BLOCKED) / (1.0 + found[0])
    # A^2 = 4 eta S N, by a meter that is off.
    efficiency = 0.83 * shot / calibrated / stated(METER)
    dark = electronic * stated(math.sqrt(2.0 / 4999.0))
    session = (light + electronic - dark) / (1.0 + found[1])
    photons = 0.83 * shot / (efficiency * session)
    scatter = float(photons.std())
    error = EXCESS_ERROR / (1.0 + EXCESS)
    others = math.hypot(METER, BLOCKED, 0.06 / (1.0 + EXCESS) * math.sqrt(2.0 / 4999.0))
    assert scatter == pytest.approx(math.hypot(others, math.sqrt(times) * error), rel=0.02)
    told = whole(doubts(with_unit_of(balance)).unit)
    assert told == pytest.approx(math.hypot(others, math.sqrt(max(times, 1)) * error), rel=0.005)


def test_intensity_noise_is_not_in_the_ratio_of_session_and_link() -> None:
    """Where both rest on the same record; the link's few records keep their Student's t."""
    once, twice = doubts(with_unit_of("b1")), doubts(with_unit_of("b2"))
    error = EXCESS_ERROR / (1.0 + EXCESS)
    assert whole(once.share) < 0.005 < error < whole(twice.share)
    records = [one for one in once.share if math.isfinite(one.degrees_of_freedom)]
    assert [one.degrees_of_freedom for one in records if one.relative == pytest.approx(0.001)] == [
        pytest.approx(11.0)
    ]


def test_of_a_detector_that_saturates_nothing_is_taken_off() -> None:
    lost = {**KNOWLEDGE.quantities}
    lost[Name("server.lo_excess_noise")] = Quantity.of(-0.02, "SNU", {"fit": 0.004})
    knowledge = replace(KNOWLEDGE, quantities=lost)
    assert lo_excess_noise(knowledge) == 0.0
    assert lo_excess_noise(KNOWLEDGE) == 0.0004
    assert lo_excess_noise(NOTHING) == 0.0
    source = next(one for one in doubts(knowledge).unit if "local oscillator" in one.name)
    assert source.relative == pytest.approx(math.hypot(0.02, 0.004))


def test_what_link_and_session_have_in_common_cancels_in_their_ratio() -> None:
    found = doubts(KNOWLEDGE)
    assert whole(found.share) < 0.005
    own = next(source for source in found.share if source.name == "calibrated transmittance")
    assert own.relative == pytest.approx(0.002 / 0.9)
    assert own.degrees_of_freedom == pytest.approx(11.0)
    # The noise in front of the link is counted in photons of the link's own light.
    assert whole(found.client_noise) == pytest.approx(math.hypot(whole(found.share), 0.0299), 1e-2)


@pytest.mark.parametrize(
    "knowledge",
    [
        replace(KNOWLEDGE, records={**RECORDS, "efficiency": "e2"}),
        replace(KNOWLEDGE, foundations={}),
        KNOWLEDGE.with_doubt("channel", "expired"),
    ],
    ids=["efficiency measured again", "foundations unknown", "channel expired"],
)
def test_nothing_cancels_unless_the_records_are_the_same(knowledge: Knowledge) -> None:
    found = doubts(knowledge)
    assert whole(found.share) > 0.05
    assert whole(found.share) >= math.hypot(whole(found.unit), whole(found.light))


def test_without_records_the_station_files_uncertainties_count() -> None:
    found, told = doubts(NOTHING), constants()
    efficiency = told.efficiency_uncertainty / told.efficiency
    assert whole(found.unit) == pytest.approx(
        math.hypot(efficiency, 0.06 * math.sqrt(2.0 / 4999.0))
    )
    loss = math.log(10.0) / 10.0 * told.fixed_attenuation_uncertainty_db
    assert whole(found.light) == pytest.approx(math.hypot(0.002, loss))
    expected = told.transmittance_uncertainty / told.transmittance
    assert whole(found.share) == pytest.approx(
        math.hypot(whole(found.unit), whole(found.light), expected)
    )


def test_a_certificate_with_hard_limits_keeps_them() -> None:
    limited = Quantity.of(
        41.0, "dB", {"launch meter": 0.13}, shapes={"launch meter": Shape.RECTANGULAR}
    )
    known = {**KNOWLEDGE.quantities, Name("server.fixed_attenuation_db"): limited}
    found = doubts(replace(KNOWLEDGE, quantities=known))
    reach = math.sqrt(3.0) * math.log(10.0) / 10.0 * 0.13
    assert found.light_factor(1e-11) < 1.0 / (1.0 - reach - 0.002 * 30.0)
    assert doubts(KNOWLEDGE).light_factor(1e-11) > found.light_factor(1e-11)
