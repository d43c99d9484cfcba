"""Every error that labctl raises, drawn once.

LabctlError
├── UsageError                what the user asked for cannot be done       (exit code 2)
│   ├── SettingError          a setting is outside what is valid
│   ├── StationFileError      a station or bench file is wrong
│   ├── BenchHeldError        another program holds an instrument
│   ├── UnknownInstrumentError a station has no instrument of that name
│   ├── ModelError            a network cannot be read or cannot run
│   ├── BudgetError           a query would leak more than its budget allows
│   ├── IdentityError         a client or operator did not show its key
│   └── DatasetError          images or labels are missing or damaged
├── InstrumentError           something on the wire or behind it           (exit code 1)
│   ├── ConnectionFailedError nothing answers at the address
│   ├── OtherInstrumentError  another instrument answers there than was opened
│   ├── InstrumentTimeoutError the instrument did not answer in time
│   ├── ReplyError            the instrument answered what no manual allows
│   ├── InstrumentReportedError the instrument itself refused the command
│   ├── LimitError            refused here, before anything was sent
│   ├── StoppedError          the station is being left, or a watched limit was crossed
│   └── StillLitError         something may still emit light         (exit code 4)
├── SignalError               light or waveform is not what the protocol needs (exit code 1)
│   ├── SynchronisationError  the preamble was not found
│   └── CalibrationError      a routine sees light that it cannot calibrate with
├── RecordError               a calibration record is damaged or stale     (exit code 1)
├── VerificationError         the server refuses to continue                  (exit code 1)
├── ProtocolError             a party's message or event is out of place   (exit code 1)
├── AbortedError              a session of two parties ended early; has a code (exit code 1)
├── OutputError               what is printed does not arrive              (exit code 1)
├── RunFileError              a run file cannot be written or read         (exit code 1)
└── EvidenceError             evidence was changed, or a run holds none    (exit code 1)
"""

from __future__ import annotations

import pathlib


class LabctlError(Exception):
    """Base of every error raised on purpose by labctl."""

    exit_code = 1


class UsageError(LabctlError):
    """What the user asked for cannot be done; nothing was started."""

    exit_code = 2


class SettingError(UsageError):
    """A setting is outside its range: names it, its value and what is valid."""

    def __init__(self, name: str, value: object, valid: str) -> None:
        shown = str(value) if isinstance(value, pathlib.PurePath) else value
        super().__init__(f"{name} = {shown!r}: must be {valid}")
        self.name = name
        self.value = value
        self.valid = valid


class StationFileError(UsageError):
    """A station or bench file is wrong: names the file, the line and what is valid."""


class BenchHeldError(UsageError):
    """A program holds an instrument; names it, its process, host, since when and for what.

    here: whether it is this very process, by a station that was opened before.
    """

    def __init__(self, address: str, owner: str, *, here: bool = False) -> None:
        advice = "`labctl safe STATION` switches the bench off from outside"
        if here:
            advice = "this process itself, by a station that is open: call its `close()` first"
        super().__init__(f"{owner} ({advice})")
        self.address = address


class UnknownInstrumentError(UsageError, AttributeError, LookupError):
    """A station has no instrument of that name; suggests the nearest and names those there are."""

    def __init__(self, name: str, known: tuple[str, ...], station: str) -> None:
        from difflib import get_close_matches

        # "laser" is near to "server_laser" by one of its words.
        words = {word: full for full in known for word in full.split("_")}
        near = get_close_matches(name, known, n=1) or [
            words[word] for word in get_close_matches(name, words, n=1)
        ]
        hint = f"did you mean {near[0]!r}? " if near else ""
        super().__init__(f"{station}: no instrument {name!r}; {hint}there are: {', '.join(known)}")
        self.instrument = name


class BudgetError(UsageError):
    """A query would leak more than its budget allows; nothing was sent."""


class IdentityError(UsageError):
    """Someone did not show the key that a ledger asks for; nothing was changed or sent."""


class ModelError(UsageError):
    """A network cannot be read, or is not made of bias-free dense layers."""


class DatasetError(UsageError):
    """An image or label file is missing, truncated or not what its header says."""


class InstrumentError(LabctlError):
    """An instrument failed; names it and, where there is one, the command that caused it."""

    def __init__(self, instrument: str, problem: str, command: str | None = None) -> None:
        after = f" (command {command!r})" if command is not None else ""
        super().__init__(f"{instrument}: {problem}{after}")
        self.instrument = instrument
        self.problem = problem
        self.command = command


class ConnectionFailedError(InstrumentError):
    """Nothing answers at the instrument's address."""


class OtherInstrumentError(InstrumentError):
    """Another instrument answers at the address than was opened there: names both."""


class InstrumentTimeoutError(InstrumentError):
    """The instrument did not answer in time."""


class ReplyError(InstrumentError):
    """The instrument answered something that its manual does not allow."""


class InstrumentReportedError(InstrumentError):
    """The instrument refused the command; carries its own error code."""

    def __init__(self, instrument: str, code: int, message: str, command: str | None) -> None:
        super().__init__(instrument, f"reports error {code}, {message}", command)
        self.code = code
        self.message = message


class LimitError(InstrumentError):
    """A value is outside the instrument's limits; nothing was sent."""

    def __init__(self, instrument: str, name: str, value: object, valid: str) -> None:
        super().__init__(instrument, f"{name} = {value!r} refused, must be {valid}")
        self.name = name
        self.value = value
        self.valid = valid


class StoppedError(InstrumentError):
    """An instrument may not be used any more: its station is being left, or had to be stopped."""

    def __init__(self, instrument: str, reason: str) -> None:
        super().__init__(instrument, f"may not be used any more: {reason}")
        self.reason = reason


class StillLitError(InstrumentError):
    """Something may still emit light after its station was left; the last words name it."""

    exit_code = 4


class SignalError(LabctlError):
    """Light or a waveform is not what the protocol needs; says the likely cause."""


class SynchronisationError(SignalError):
    """The preamble was not found in an acquired record."""


class CalibrationError(SignalError):
    """A calibration routine cannot trust what it sees; names the likely cause, leaves no record."""


class RecordError(LabctlError):
    """A calibration record or a ledger is damaged or missing, or does not apply any more."""


class VerificationError(LabctlError):
    """The returned light fails the verification and the session stops."""


class ProtocolError(LabctlError):
    """A message or event is out of place, or not what was agreed; the party's state is as it was.

    party: who refused it. state: the one that it is in. problem: what came, and what is expected.
    """

    def __init__(self, party: str, state: str, problem: str) -> None:
        super().__init__(f"{party} ({state}): {problem}")
        self.party = party
        self.state = state
        self.problem = problem


class AbortedError(LabctlError):
    """A session between two parties ended before its time; nothing more is said in it.

    code: its name, a value of `labctl.protocols.messages.AbortCode`. by: who ended it.
    """

    def __init__(self, by: str, code: str, reason: str) -> None:
        super().__init__(f"{by} ended the session ({code}): {reason}")
        self.by = by
        self.code = code
        self.reason = reason


class OutputError(LabctlError, OSError):
    """What is printed does not arrive; the work itself is done, its files and accounts are kept."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"standard output cannot be written ({reason}); files and accounts are kept"
        )


class RunFileError(LabctlError):
    """A run file cannot be written, or is not one."""


class EvidenceError(LabctlError):
    """Evidence is not what was written or is not of its run, or a run holds nothing to attest."""
