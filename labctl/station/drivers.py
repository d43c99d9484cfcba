"""The drivers that are installed, as a station sees them: a class that can be opened, by name."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Protocol, Self

from pydantic import BaseModel

from labctl.entry_points import entry_points
from labctl.errors import StationFileError

DRIVER_GROUP = "labctl.drivers"
# How a driver hands out one of its channels: as a power meter's input, or as an output.
CHANNEL_METHODS = ("channel", "dc_output")


class Openable(Protocol):
    """What a station needs of an instrument of any kind."""

    def identify(self) -> object:
        """Ask who is there."""
        ...

    def safe_state(self) -> None:
        """Put the instrument in a state where it can do no harm."""
        ...

    def close(self) -> None:
        """End the session."""
        ...


class DriverClass(Openable, Protocol):
    """A class of instruments that can be opened.

    If it has an attribute `Options`, that is the pydantic model of its options, by which a file is
    checked without opening anything. An attribute `hazard` (`labctl.hazards.Hazard`) says what it
    can do harm by, and so when it has its turn on the way out. `safe_state_except(channel)` sets
    all channels but one to their safe state: that one may hold a shutter closed. `leaving_s`: how
    long its safe state may take, where that is more than some seconds (a motor turns).
    """

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect to a VISA address and identify the instrument."""
        ...


def options_model(driver: type) -> type[BaseModel] | None:
    """Return the model of a driver's options; None where it does not say what it takes."""
    model = getattr(driver, "Options", None)
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def find_driver(name: str) -> type[DriverClass]:
    """Return a driver's class by its entry-point name.

    Raises StationFileError if there is none of that name, or if it cannot be imported.
    """
    found = {point.name: point for point in entry_points(group=DRIVER_GROUP)}
    if name not in found:
        near = get_close_matches(name.lower().replace("-", "_"), list(found), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise StationFileError(
            f"unknown driver {name!r}; {hint}there are: {', '.join(sorted(found))}"
        )
    try:
        driver: type[DriverClass] = found[name].load()
    except Exception as error:  # another package's driver may fail in any way while importing
        raise StationFileError(
            f"driver {name!r} ({found[name].value}) cannot be imported: {error!r}"
        ) from error
    return driver
