"""Every number that a command takes: out of range or unreadable, the error names option and value.

What would be valid follows: in the range that the setting has, or in the words of the help.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from declared_options import DECLARED, Declared

from labctl.cli.said import AsWritten, as_option, read
from labctl.errors import SettingError

# What each command cannot do without, so that the number alone is wrong.
NEEDED = {
    "infer": ("--images", "1"),
    "leakage": ("--mu", "1", "--gain", "1.3"),
    "plan": ("--accuracy", "0.96", "--weights-bits", "0.3"),
    "blocks": ("--f", "0.3"),
    "label-attack": ("--gain", "1.02"),
    "attack run": ("tap",),
    "attack queries": ("tap",),
    "attack curve": ("tap",),
    "server": ("s.toml", "--identity", "i"),
    "client": ("s.toml", "--identity", "i", "--server", "a:1"),
    "ledger set-budget": ("--client", "a", "--model", "few-rows"),
    "keys authority": ("a",),
    "keys issue": ("a", "--authority", "b"),
    "keys renew": ("a", "--authority", "b"),
    "copies table": ("table.toml",),
    "train": ("data.csv",),
    "instruments query": ("a", "b"),
}
# Their other input is read first: a file that is not there is what is wrong.
FILES_FIRST = {"sweep", "train", "server --gain"}
NUMBERS = [one for one in DECLARED if {"'float'", "'int'"} & {*one.kind.split(" | ")} or
           one.kind in ("<class 'float'>", "<class 'int'>")]  # fmt: skip


def whole(option: Declared) -> bool:
    return "int" in option.kind


def named(option: Declared) -> str:
    return f"{option.command} {option.name}"


def test_numbers_of_all_commands_are_looked_at() -> None:
    assert len(NUMBERS) > 150


TRIED = [one for one in NUMBERS if not {one.command, named(one)} & FILES_FIRST]


@pytest.mark.parametrize("option", TRIED, ids=named)
def test_a_number_below_all_ranges_is_named_with_its_value_and_what_is_valid(
    option: Declared, refused: Callable[..., str]
) -> None:
    text = "-7" if whole(option) else "-1e300"
    said = refused(
        *option.command.split(), *NEEDED.get(option.command, ()), f"{option.name}={text}"
    )
    shown = (text, repr(int(text) if whole(option) else float(text)), f"'{text}'")
    assert any(f"{option.name} = {each}: must be " in said for each in shown), said


@pytest.mark.parametrize("option", TRIED, ids=named)
def test_what_is_no_number_is_shown_with_the_words_of_the_help(
    option: Declared, refused: Callable[..., str]
) -> None:
    given = *option.command.split(), *NEEDED.get(option.command, ())
    said = refused(*given, f"{option.name}=many")
    kind = "a whole number" if whole(option) else "a number"
    help_text = " ".join((option.info.help or "").split()).rstrip(".")
    assert f"{option.name} = 'many': must be {kind} ({help_text})" in " ".join(said.split())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("leakage --mu 1e10 --gain 2", "--mu = 10000000000.0: must be 1e-12 to 1e+09"),
        ("leakage --mu 1 --gain 2 --queries 2e12", "--queries = '2e12': must be a whole number"),
        ("attack run tap --strength 1.5", "--strength = 1.5: must be 0 or more, below 1"),
        ("label-attack --clone-gain-error 0.01", "--mu was left out: must be given"),
        ("copies show --decoys 1.5", "--decoys = '1.5': must be a whole number"),
        ("blocks --f 0.3 --mu 2", "--mu = 2.0: must be left out where F is given (0.3)"),
        ("keys authority a --days 0", "--days = '0': must be a whole number (Number of days"),
        ("infer --loss maybe", "--loss = 'maybe': must be one of trusted, untrusted"),
        (
            "false-alarms --false-alarm-probabilities 0.1,2",
            "--false-alarm-probabilities = 2.0: must be 1e-100 to below 1",
        ),
        (
            "attack curve tap --false-alarm-probabilities 1e-400",
            "--false-alarm-probabilities = 1e-400: must be 1e-100 to below 1",
        ),
        ("ledger set-budget --client a --model few-rows --copy-accuracy 3",
         "--copy-accuracy = 3.0: must be above 0 and below 1"),
    ],
)  # fmt: skip
def test_errors_name_options_and_not_what_a_script_calls_them(
    given: str, said: str, refused: Callable[..., str]
) -> None:
    assert said in refused(*given.split())


PROBABLE = ("--false-alarm-probability", "--failure-probability")


@pytest.mark.parametrize("option", [one for one in TRIED if one.name in PROBABLE], ids=named)
@pytest.mark.parametrize("text", ["1e-400", "0", "1", "1e-101"])
def test_a_probability_has_one_range_and_is_shown_as_it_was_written(
    option: Declared, text: str, refused: Callable[..., str]
) -> None:
    said = refused(*option.command.split(), *NEEDED.get(option.command, ()), option.name, text)
    shown = text if text == "1e-400" else repr(float(text))
    assert f"{option.name} = {shown}: must be 1e-100 to below 1" in said


@pytest.mark.parametrize(
    "command", ["infer", "plan", "copies show", "copies measure", "label-attack"]
)
def test_decoys_have_one_range(command: str, refused: Callable[..., str]) -> None:
    for text in ("-1", "10", "300"):
        said = refused(*command.split(), *NEEDED.get(command, ()), "--decoys", text)
        assert f"--decoys = {text}: must be 0 to 9, one per class" in said


def test_a_number_too_small_for_a_computer_keeps_its_text() -> None:
    assert repr(read(" 1e-400 ")) == "1e-400"
    assert read("1e-400") == 0.0
    assert not isinstance(read("0.0e5"), AsWritten)
    assert read("2.5e-3") == 2.5e-3
    with pytest.raises(ValueError, match="could not convert"):
        read("few")


def test_an_error_of_something_else_is_not_laid_to_an_option_of_the_same_name() -> None:
    class Parameter:
        opts = ("--images",)
        name = "images"

    error = SettingError("images", (40, 64), "(images, 784)")
    assert as_option(error, [Parameter], {"images": 1}) is None
    own = as_option(SettingError("images", 0, "1 or more"), [Parameter], {"images": 0})
    assert str(own) == "--images = 0: must be 1 or more"
    other = SettingError("seeds", 0, "1 or more")
    assert as_option(other, [Parameter], {"images": 0}) is None
