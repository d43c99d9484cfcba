"""What an error says of an option: its name on the command line, the text given, its range.

Settings are refused where they are used, by the names that a script gives them: `mean_photons`. Who
typed `--mu` reads `--mu`. A number that cannot be read is refused by the parser, whose releases
word that differently and tell neither value nor range: both are said here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from labctl.errors import SettingError, UsageError

# Settings whose option has another name; all others differ by underscores alone.
_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "mean_photons": "--mu",
        "false_alarm_probability": "--false-alarm-probabilities",
        "signal_to_noise": "--f",
        "gain_error": "--clone-gain-error",
        "phase_rad": "--clone-phase-rad",
        "rotation loss_db_per_mode": "--rotation-loss-db-per-mode",
        "rotation coupler_error_rad": "--coupler-error-rad",
        "rotation phase_error_rad": "--phase-error-rad",
        "probation queries": "--probation",
        "runs": "--noise-runs",
        "correlation": "--correlation-limit",
        "images": "--images-per-session",
        "limit of weights_bits": "--weights-bits",
        "limit of data_bits": "--data-bits",
        "limit of label_success": "--label-attack",
        "limit of weights_bits_per_real": "--weights-bits-honest",
        "limit of data_bits_journal": "--data-bits",
        "limit of the copy's accuracy": "--copy-accuracy",
        "limit of the copy's distance": "--copy-distance",
        "queries of the copy": "--copy-queries",
        "factor of the bound": "--bound-factor",
        "bound on weights_bits": "--bound-bits",
        # Where the light that a server reads is meant, there is no loss of a whole link.
        "loss_db": "--return-loss-db",
        "technical_noise": "--detected-noise",
    }
)


class AsWritten(float):
    """A number so small that it is 0 to a computer; shown as it was written."""

    def __new__(cls, text: str) -> AsWritten:
        """Read the text of a number."""
        return super().__new__(cls, text)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def read(text: str) -> float:
    """Return the number that a text is; raises ValueError if it is none.

    >>> read("0.5"), read("1e-400"), read("1e-400") == 0.0
    (0.5, 1e-400, True)
    """
    value = float(text)
    vanished = value == 0.0 and any(digit in "123456789" for digit in text.lower().split("e")[0])
    return AsWritten(text.strip()) if vanished else value


def given(parameters: Iterable[Any], arguments: Sequence[str]) -> dict[str, str]:
    """Return the texts given to the options of a command, by the parser's name of each."""
    names = _names_of(parameters)
    found: dict[str, str] = {}
    for place, argument in enumerate(arguments):
        if argument == "--":
            break
        option, equals, text = argument.partition("=")
        if option not in names:
            continue
        if equals:
            found[names[option]] = text
        elif place + 1 < len(arguments):
            found[names[option]] = arguments[place + 1]
    return found


def _names_of(parameters: Iterable[Any]) -> dict[str, str]:
    """Return the parser's name of each option, by the option's long names."""
    return {name: one.name for one in parameters for name in one.opts if name.startswith("--")}


def unread(parameter: Any, text: str) -> SettingError:
    """Return the error of a text that an option cannot take, which its help tells the range of."""
    meaning = (parameter.help or "").rstrip(".")
    return SettingError(option_of(parameter), text, f"{_kind(parameter)} ({meaning})")


def _kind(parameter: Any) -> str:
    """Return what an option takes, in words; older and newer parsers keep its type apart."""
    old = getattr(parameter, "type", None)
    kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    choices = getattr(old, "choices", None) or getattr(kind, "__members__", None)
    if choices:
        return f"one of {', '.join(str(getattr(kind, str(one), one)) for one in choices)}"
    name = str(getattr(old, "name", None) or getattr(kind, "__name__", ""))
    if name.startswith("int"):
        return "a whole number"
    return "a number" if name.startswith("float") else "valid"


def _gave(option: object, value: object) -> bool:
    """Return whether an option's value, or one of its list, is that of the error."""
    if isinstance(option, str) and not isinstance(value, str):
        return _among(option, value)
    return option == value or str(option) == str(value) == "nan"


def _among(texts: str, value: object) -> bool:
    """Return whether a value is among numbers with commas between."""
    try:
        return value in [read(each) for each in texts.split(",")]
    except ValueError:
        return False


def option_of(parameter: Any) -> str:
    """Return the long name of an option of the parser."""
    return str(next(name for name in parameter.opts if name.startswith("--")))


def as_option(
    error: SettingError, parameters: Iterable[Any], values: Mapping[str, Any]
) -> UsageError | None:
    """Return the error under the option's name, None where no option of the command gave the value.

    `values`: of the parser's parameters. A file, or the images themselves, may have a setting of
    the same name: it is the option's only where the values are the same.
    """
    options = _names_of(parameters)
    own = "--" + error.name.replace("_", "-").replace(" ", "-")
    option = next(
        (
            one
            for one in (own, _OPTIONS.get(error.name))
            if one in options and _gave(values.get(options[one]), error.value)
        ),
        None,
    )
    if option is None:
        return None
    # To a script an option that is left out is None.
    valid = re.sub(r"\bNone\b", "left out", error.valid)
    said = (
        UsageError(f"{option} was left out: must be {valid}")
        if error.value is None
        else SettingError(option, error.value, valid)
    )
    for note in getattr(error, "__notes__", ()):
        said.add_note(note)
    return said
