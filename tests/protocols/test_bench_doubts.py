"""What a bench session does not know exactly: which constants, by which records."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from labctl.calibration.distributions import Shape
from labctl.calibration.knowledge import NOTHING, Knowledge
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.data import shipped_station_path
from labctl.protocols.bench_doubts import bench_doubts
from labctl.protocols.server.transmitter import Level
from labctl.protocols.verification.doubts import Doubts, Source
from labctl.station.file import ServerConstants, StationFile
from labctl.toml_file import read_toml

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
    excess = math.hypot(0.0004, 0.0003)
    assert whole(found.unit) == pytest.approx(
        math.hypot(0.0249 / 0.83, 0.002 / 0.83, electronic, excess)
    )


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
