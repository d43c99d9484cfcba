"""Wire faults at drivers: a wrong value is never taken as right, then or later.

48 and more cases on five kinds of wire; all of them: `labctl faults table wire`.
"""

from __future__ import annotations

import pytest

from labctl.data import shipped_fleet_station_path
from labctl.instruments.simulated.faults.plan import PlannedFault
from labctl.studies.faults.wires import QUESTIONS, Question, faults_of, outcome_of

# Reads 16 MB before it gives up: seconds of processor time.
SLOW = "reply without an end"
WHOLE = ("SENS:CORR:WAV?", "read 32", "MZM:")
SOME = ("number cut", "exponent of 1e9", "reply doubled 10 ms later")


def cases() -> list[object]:
    found: list[object] = []
    for question in QUESTIONS:
        for name, fault in faults_of(question).items():
            if name != SLOW and (question.on in WHOLE or name in SOME):
                label = f"{question.instrument}-{question.name}-{name}"
                found.append(pytest.param(question, name, fault, id=label))
    return found


@pytest.mark.parametrize(("question", "name", "fault"), cases())
def test_no_wrong_value_is_taken_as_right(
    question: Question, name: str, fault: PlannedFault
) -> None:
    found = outcome_of(shipped_fleet_station_path(), question, name, fault)
    assert found.is_safe, found


def test_there_are_enough_cases() -> None:
    assert len(cases()) >= 48


@pytest.mark.parametrize("question", [QUESTIONS[1], QUESTIONS[4]], ids=lambda each: each.name)
def test_one_reply_that_is_dropped_is_asked_for_again(question: Question) -> None:
    fault = faults_of(question)["reply lost"]
    found = outcome_of(shipped_fleet_station_path(), question, "reply lost", fault)
    assert (found.answer, found.wrong_later, found.errors_later) == ("right", 0, 0)
