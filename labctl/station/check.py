"""What can be known to be wrong with a station file before anything is opened, all of it at once.

The driver states which options it takes (`Options`) and which quantities its setters set, and so
which limits can bind; a limit that nothing would ever look at is no limit, and refused. What roles
need of an instrument is checked by the code that owns the experiment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labctl.errors import StationFileError
from labctl.quantities import handed_out, public_methods, quantities_of, unit_of
from labctl.station import drivers
from labctl.station.arriving import CLIENT, KEY
from labctl.station.channels import absent_channel, absent_in_roles
from labctl.station.drivers import CHANNEL_METHODS, DriverClass
from labctl.station.file import SIMULATED, LimitTable, StationFile, library_of, split_watched
from labctl.station.watched import watched_readings
from labctl.toml_file import place
from labctl.wording import plain_fault


def check_station(station: StationFile, path: Path) -> dict[str, type[DriverClass]]:
    """Return each instrument's driver; raises StationFileError with a line for every fault."""
    found: dict[str, type[DriverClass]] = {}
    faults: list[str] = []
    for name, table in station.instruments.items():
        try:
            found[name] = drivers.find_driver(table.driver)
        except StationFileError as error:
            where = place(path, "instruments", name, "driver")
            faults.append(f"{where}: instrument {name!r}: {error}")
            continue
        faults += _options(station, path, name, found[name])
        faults += _limits(station, path, name, found[name])
        faults += _ways_out(station, path, name, found[name])
    faults += _watch(station, path, found)
    faults += absent_in_roles(station, path, dict(found))
    if faults:
        raise StationFileError("\n".join(faults))
    return found


def channel_methods(driver: type) -> list[str]:
    """Return the methods by which a class hands out its channels, by number; none for one."""
    found = dict(public_methods(driver))
    return [
        name
        for name in CHANNEL_METHODS
        if name in found and len(signature(found[name]).parameters) > 1
    ]


def can_serve(driver: type, channel: int | None, capability: type[Any]) -> bool:
    """Tell whether an instrument, or a channel of it, has a capability, by its class alone.

    What a method hands out is known by its annotation; without one, it may be anything.
    """
    methods = channel_methods(driver)
    whole = issubclass(driver, capability)
    if channel is None or not methods:
        return whole and channel in (None, 1)
    parts = [handed_out(getattr(driver, name)) for name in methods]
    return any(part is None or issubclass(part, capability) for part in parts)


def _options(
    station: StationFile, path: Path, name: str, driver: type[DriverClass]
) -> Iterator[str]:
    """Yield what is wrong with an instrument's options; a driver need not say what it takes."""
    model = drivers.options_model(driver)
    if model is None:
        return
    try:
        model.model_validate(station.instruments[name].options)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            key = str(fault["loc"][0]) if fault["loc"] else ""
            where = place(path, "instruments", name, "options", key)
            if fault["type"] == "extra_forbidden":
                yield f"{where}: {name}: unknown option {key!r}; {_hint(key, model.model_fields)}"
            else:
                problem = plain_fault(fault["msg"])
                yield f"{where}: {name} option {key} = {fault['input']!r}: {problem}"


def _limits(
    station: StationFile, path: Path, name: str, driver: type[DriverClass]
) -> Iterator[str]:
    """Yield the limits that no setter of an instrument would ever be checked by."""
    limits = station.instruments[name].limits
    known = sorted(quantities_of(driver)) if limits else []
    for quantity in limits:
        if quantity in known:
            continue
        where = place(path, "instruments", name, "limits", quantity)
        unit = "" if unit_of(quantity) else ", which names no unit"
        driver_name = station.instruments[name].driver
        yield (
            f"{where}: {name}.limits.{quantity}{unit}: {driver_name} sets no such quantity; "
            f"{_hint(quantity, known)}"
        )


def _ways_out(
    station: StationFile, path: Path, name: str, driver: type[DriverClass]
) -> Iterator[str]:
    """Yield the shutter and the ramps that an instrument has no output for.

    What is left to a teardown would be found out with the light on.
    """
    table = station.instruments[name]
    wanted: list[tuple[str, int | None]] = []
    if table.shutter is None and table.ramp is None:
        return
    # It loads NumPy, which most station files are read without.
    from labctl.instruments.capabilities import VoltageSource

    if table.shutter is not None:
        wanted.append(("shutter", table.shutter.channel))
        allowed, closed_v = table.limits.get("voltage_v", LimitTable()), table.shutter.closed_v
        if not allowed.low <= closed_v <= allowed.high:
            yield (
                f"{place(path, 'instruments', name, 'shutter')}: closed_v = {closed_v:g}: "
                f"{name}.limits.voltage_v allows {allowed.low:g} to {allowed.high:g} V"
            )
    if table.ramp is not None:
        wanted += [("ramp", channel) for channel in table.ramp.channels or (None,)]
    for key, channel in wanted:
        if not can_serve(driver, channel, VoltageSource):
            which = name if channel is None else f"{name}/{channel}"
            yield (
                f"{place(path, 'instruments', name, key)}: {which!r} ({table.driver}) has no "
                f"voltage output for a {key}"
            )
        elif absent := absent_channel(table, driver, name, channel):
            yield f"{place(path, 'instruments', name, key)}: {key}: {absent}"


def _watch(
    station: StationFile, path: Path, found: Mapping[str, type[DriverClass]]
) -> Iterator[str]:
    """Yield the watched limits that nothing would be read for, or that limit nothing."""
    if station.watch is None:
        return
    if not station.watch.limits and not any(watched_readings(station, path)):
        yield (
            f"{place(path, 'watch')}: nothing is watched: expected limits here, or "
            f"{KEY} and an arrival meter of {CLIENT} that is not simulated"
        )
    for key, limit in station.watch.limits.items():
        where = place(path, "watch", "limits", key)
        try:
            name, channel, quantity = split_watched(key)
        except ValueError as error:
            yield f"{where}: {error}"
            continue
        if name not in station.instruments:
            yield f"{where}: no instrument {name!r}; {_hint(name, station.instruments)}"
        elif name in found and not _reads(found[name], channel, quantity):
            driver = station.instruments[name].driver
            yield f"{where}: {driver} has no reading {quantity!r} that takes no argument"
        elif name in found and (absent := _absent(station, found[name], name, channel)):
            yield f"{where}: {absent}"
        nothing = math.isinf(limit.low) and math.isinf(limit.high)
        if nothing or not limit.low <= limit.high:
            yield f"{where}: {key}: expected low, high or both, low not above high"


def _absent(station: StationFile, driver: type, name: str, channel: int | None) -> str:
    """Return in words that a watched channel is not there; "" if it is, or may be."""
    if not channel_methods(driver):
        return "" if channel in (None, 1) else f"{name} has one channel only, got {channel}"
    return absent_channel(station.instruments[name], driver, name, channel)


def _reads(driver: type, channel: int | None, quantity: str) -> bool:
    """Tell whether an instrument, or a channel of it, has a method without arguments."""
    methods = channel_methods(driver) if channel is not None else []
    for kind in [handed_out(getattr(driver, name)) for name in methods] or [driver]:
        method = getattr(kind, quantity, None)
        if kind is None or (callable(method) and len(signature(method).parameters) == 1):
            return True
    return False


def missing_benches(station: StationFile, path: Path) -> Iterator[str]:
    """Yield the bench files that are missing, once each; a replay needs none of them."""
    seen = set()
    for name, table in station.instruments.items():
        library = library_of(station, path, name)
        bench = Path(library.removesuffix(SIMULATED))
        if library == SIMULATED or not library.endswith(SIMULATED) or bench in seen:
            continue
        seen.add(bench)
        if not bench.is_file():
            own = ("instruments", name, "library") if table.library is not None else ("library",)
            yield f"{place(path, *own)}: there is no bench file {bench}"


def _hint(key: str, valid: Iterable[str]) -> str:
    names = sorted(valid)
    near = get_close_matches(key, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}valid here: {', '.join(names) or 'none'}"
