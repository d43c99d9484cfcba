"""Faults in a run: asked again and right, or stopped, dark and named by their own cause.

Five of the catalogue; all of them: `labctl faults table run`.
"""

from __future__ import annotations

import pytest

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.data import shipped_station_path
from labctl.studies.faults.catalogue import CATALOGUE, NamedFault
from labctl.studies.faults.runs import RunOutcome, outcome_of, shot_noise_unit

BY_NAME = {fault.name: fault for fault in CATALOGUE}


@pytest.fixture(scope="module")
def unit() -> ReceiverCalibration:
    return shot_noise_unit(shipped_station_path())


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("reply lost", "right"),
        pytest.param("generator of frames restarts", "stopped", marks=pytest.mark.long),
        pytest.param("fibre cut", "stopped", marks=pytest.mark.long),
        ("trigger of the rotation lost", "stopped"),
        ("attenuator stuck open", "stopped"),
    ],
)
def test_a_fault_is_answered(name: str, ending: str, unit: ReceiverCalibration) -> None:
    found = outcome_of(shipped_station_path(), BY_NAME[name], unit)
    assert found.acted >= 1
    assert found.is_answered, found
    assert found.ending == ending
    if name == "attenuator stuck open":
        assert "arriving light is brighter" in found.said


def test_the_catalogue_holds_what_has_to_be_answered() -> None:
    assert len(CATALOGUE) >= 40
    assert len(BY_NAME) == len(CATALOGUE)
    kinds = {fault.fault.kind for fault in CATALOGUE}
    assert kinds >= {
        "late",
        "cut",
        "doubled",
        "garbled",
        "stale",
        "endless",
        "dropped",
        "half-closed",
        "reboot",
        "local",
        "queue full",
        "mode hop",
        "fading",
        "bias jump",
        "polarisation jump",
        "saturation",
        "fibre cut",
        "clock slip",
        "trigger lost",
    }


@pytest.mark.parametrize(
    ("ending", "named", "dark", "answered"),
    [
        ("right", False, True, True),
        ("stopped", True, True, True),
        ("stopped", False, True, False),
        ("stopped", True, False, False),
        ("rejected", True, True, True),
        ("wrong", True, True, False),
    ],
)
def test_what_counts_as_answered(ending: str, named: bool, dark: bool, answered: bool) -> None:
    assert RunOutcome("any", ending, "", named, dark, 1).is_answered is answered


def test_a_fault_is_a_named_one() -> None:
    assert all(isinstance(fault, NamedFault) and fault.cause for fault in CATALOGUE)
