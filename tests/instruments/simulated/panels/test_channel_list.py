"""SCPI channel lists as parameters."""

import pytest

from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Form, Parameter
from labctl.instruments.simulated.panels.channel_list import channel_list, split_channels

ONE = Parameter(Form.PLAIN, b"1")


def expression(text: str) -> Parameter:
    return Parameter(Form.EXPRESSION, text.encode())


@pytest.mark.parametrize(
    ("text", "channels"),
    [("(@1)", [1]), ("( @1, 3 )", [1, 3]), ("(@1:3)", [1, 2, 3]), ("(@3:2,1)", [3, 2, 1])],
)
def test_lists_name_channels_in_order(text: str, channels: list[int]) -> None:
    assert channel_list(expression(text), (1, 2, 3)) == channels


@pytest.mark.parametrize(
    ("text", "code"),
    [("(1)", -102), ("(@)", -102), ("(@1,,2)", -102), ("(@4)", -222), ("(@1:9999)", -222)],
)
def test_wrong_lists_are_refused(text: str, code: int) -> None:
    with pytest.raises(ScpiError) as trouble:
        channel_list(expression(text), (1, 2, 3))
    assert trouble.value.code == code


def test_a_number_is_no_list() -> None:
    with pytest.raises(ScpiError, match="-104"):
        channel_list(ONE, (1,))


def test_a_list_stands_behind_other_parameters() -> None:
    assert split_channels([ONE, expression("(@2)")], (1, 2), 1) == ([ONE], [2])
    assert split_channels([ONE], (1, 2), 1) == ([ONE], [1])
