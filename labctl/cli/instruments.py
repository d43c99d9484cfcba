"""`labctl instruments list|scan|identify|query`: which drivers there are, and who answers where.

Nothing here changes the state of an instrument, except what the message of `query` changes.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl import checks
from labctl.addresses import canonical
from labctl.cli import options, output
from labctl.data import shipped_station_path
from labctl.errors import ConnectionFailedError, InstrumentError, SettingError
from labctl.quantities import handed_out
from labctl.safety import interruptible
from labctl.station import Station, describe
from labctl.station.check import channel_methods
from labctl.station.drivers import Openable
from labctl.station.file import library_of
from labctl.visible import visible_line

if TYPE_CHECKING:
    from labctl.instruments.transports.transport import MessageTransport

app = typer.Typer(
    help="List drivers, look for instruments, ask one who it is or anything else.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_LIBRARY = Annotated[
    str, typer.Option(help='VISA library: "" (the system\'s), "@py", or "BENCH.toml@labctl".')
]
_EVERYTHING = "?*"
_OF_EVERY_DRIVER = ("Instrument", "Driver")


@dataclass(frozen=True)
class _Target:
    """One instrument to open: with which driver, where, and how."""

    name: str
    driver: str
    address: str
    library: str
    options: Mapping[str, object]
    opener: Callable[..., Openable]


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List the installed drivers: kind, capabilities, and what each says of itself."""
    from labctl.instruments import drivers

    rows = [_driver_row(name) for name in drivers.names()]
    if json:
        output.print_json({"drivers": rows})
        return
    output.table(
        f"{len(rows)} drivers",
        ["driver", "kind", "capabilities", "what it is"],
        [
            [str(row["driver"]), str(row["kind"]), ", ".join(_names(row)), str(row["doc"])]
            for row in rows
        ],
    )


@app.command()
def scan(
    library: _LIBRARY = "",
    identify: Annotated[
        bool, typer.Option("--identify", help="Send *IDN? to USB and LAN instruments.")
    ] = False,
    serial: Annotated[
        bool,
        typer.Option(
            "--serial", help="With --identify: also send it to serial lines, at 9600 baud."
        ),
    ] = False,
    gpib: Annotated[
        bool, typer.Option("--gpib", help="With --identify: also send it to GPIB instruments.")
    ] = False,
    timeout_s: Annotated[
        float,
        typer.Option(help="Maximum time to wait for each answer in seconds, above 0, at most 600."),
    ] = 2.0,
    json: options.Json = False,
) -> None:
    """Show the VISA resources that can be seen. Sends nothing to them without --identify.

    *IDN? is harmless where every instrument is message-based and knows IEEE 488.2: USB and LAN
    (VXI-11, HiSLIP). A device on a serial line may misread it and is asked only with --serial; a
    GPIB instrument may be older than IEEE 488.2 and is asked only with --gpib. Raw sockets and
    register-based resources are never asked.
    """
    checks.above("--timeout-s", timeout_s, 0, 600)
    if (serial or gpib) and not identify:
        name = "--serial" if serial else "--gpib"
        raise SettingError(name, True, "given with --identify: it widens what that asks")
    asked = {"USB": identify, "TCPIP": identify, "ASRL": serial, "GPIB": gpib}
    rows = []
    for address in _resources(library):
        row = {"address": address, "identity": "", "note": "not asked" if identify else ""}
        if any(on and _is_asked(address, kind) for kind, on in asked.items()):
            row |= _idn(address, library, timeout_s)
        rows.append(row)
    if json:
        output.print_json({"library": library, "resources": rows})
        return
    columns = ["address", "identity", "note"] if identify else ["address"]
    output.table(
        f"{len(rows)} resources", columns, [[row[column] for column in columns] for row in rows]
    )


@app.command("identify")
def identify_(
    instrument: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|ADDRESS]", help="Name or address in the station."),
    ] = None,
    station: options.OptionalStation = None,
    driver: Annotated[
        str | None, typer.Option(help="Driver to open it with, instead of a station's.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="VISA address of the instrument, with --driver.")
    ] = None,
    library: _LIBRARY = "",
    json: options.Json = False,
) -> None:
    """Open one instrument with its driver, print who answers, leave it as it was.

    The station is the shipped demo's unless given. The session is closed without a safe state: an
    instrument that others use stays as they left it. Opening asks for the identity and, where the
    driver does so, empties the error queue.
    """
    if driver is None:
        _refuse_alone({"--address": address, "--library": library or None}, "--driver")
        target = _of_station(instrument, station)
    else:
        _refuse_beside({"NAME": instrument, "--station": station}, "--driver")
        target = _of_driver(driver, address, library)
    with _opened(target) as opened:
        values = describe({target.name: opened.identify()})[target.name]
    if json:
        who = {"instrument": target.name, "driver": target.driver, "address": target.address}
        output.print_json({**who, **values})
    else:
        where = {"driver": target.driver, "address": target.address}
        output.facts(target.name, {**where, **values})


@app.command()
def query(
    instrument: Annotated[
        str, typer.Argument(help="An instrument of the station, or its address.")
    ],
    command: Annotated[str, typer.Argument(help="What to send, without a terminator.")],
    station: options.OptionalStation = None,
    json: options.Json = False,
) -> None:
    """Send one raw query through the instrument's message transport and print the reply.

    The station is the shipped demo's unless given. No limit is checked, and what the query changes
    stays changed. The driver
    opens the session and makes sure who answers; the session is closed without a safe state.
    """
    if not command.strip() or not command.isascii() or not command.isprintable():
        raise SettingError("COMMAND", command, "one line of printable ASCII characters")
    target = _of_station(instrument, station)
    from labctl.instruments.transports.taps import opened_message_transports

    with opened_message_transports() as wires, _opened(target):
        reply = _message_transport(target.name, wires).query(command)
    if json:
        output.print_json(
            {
                "instrument": target.name,
                "address": target.address,
                "command": command,
                "reply": reply,
            }
        )
    else:
        print(visible_line(reply))


def _names(row: Mapping[str, object]) -> list[str]:
    names = row["capabilities"]
    return [str(name) for name in names] if isinstance(names, list) else []


def _driver_row(name: str) -> dict[str, object]:
    """Return what is known of a driver; one that cannot be imported says why in its place."""
    from labctl.instruments import drivers

    try:
        driver = drivers.load(name)
    except SettingError as error:
        return {"driver": name, "kind": "", "capabilities": [], "doc": str(error)}
    module = inspect.getmodule(driver)
    said = inspect.getdoc(module) or inspect.getdoc(driver) or ""
    return {
        "driver": name,
        "kind": _kind(driver),
        "capabilities": _capabilities_with_channels(driver),
        "doc": said.partition("\n")[0],
    }


def _kind(driver: type[object]) -> str:
    """Return the folder of a driver's module, as words."""
    folders = driver.__module__.split(".")[:-1]
    return folders[-1].replace("_", " ") if folders else ""


def _capabilities_with_channels(driver: type[object]) -> list[str]:
    """Return the capabilities of a driver class and of the channels that it hands out, sorted."""
    found = set(capabilities_of(driver))
    for method in channel_methods(driver):
        channel = handed_out(getattr(driver, method))
        found.update(() if channel is None else capabilities_of(channel))
    return sorted(found)


def capabilities_of(driver: type[object]) -> list[str]:
    """Return the names of the capability protocols whose members a driver class all has, sorted."""
    from labctl.instruments import capabilities

    protocols = {
        name: member
        for name, member in vars(capabilities).items()
        if inspect.isclass(member)
        and getattr(member, "_is_protocol", False)
        and member.__module__ == capabilities.__name__
        and name not in _OF_EVERY_DRIVER
    }
    return sorted(
        name
        for name, protocol in protocols.items()
        if all(hasattr(driver, member) for member in _members(protocol))
    )


def _members(protocol: type[object]) -> set[str]:
    return {
        name
        for base in protocol.__mro__
        if getattr(base, "_is_protocol", False) and base.__module__ == protocol.__module__
        for name in (*vars(base), *vars(base).get("__annotations__", {}))
        if not name.startswith("_")
    }


def _resources(library: str) -> tuple[str, ...]:
    """Return all resources that a VISA library lists; what it warns of goes to stderr."""
    from labctl.instruments.transports.visa_link import resource_manager

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        manager = resource_manager(library)
        try:
            found = manager.list_resources(_EVERYTHING)
        except Exception as error:  # backends raise what they like
            problem = f"library {library!r} cannot list its resources: {error}"
            raise ConnectionFailedError("VISA", problem) from error
    for warning in heard:
        if issubclass(warning.category, UserWarning):
            output.say_step(f"VISA says: {warning.message}")
    return tuple(found)


def _is_asked(address: str, kind: str) -> bool:
    from pyvisa import rname

    try:
        parsed = rname.parse_resource_name(address)
    except rname.InvalidResourceName:
        return False
    return parsed.interface_type == kind and parsed.resource_class == "INSTR"


def _idn(address: str, library: str, timeout_s: float) -> dict[str, str]:
    from labctl.instruments.transports.visa_transport import open_visa

    try:
        wire = open_visa(address, address, library=library, timeout_s=timeout_s)
    except InstrumentError as error:
        return {"note": error.problem}
    try:
        return {"identity": wire.query("*IDN?"), "note": ""}
    except InstrumentError as error:
        return {"note": error.problem}
    finally:
        wire.close()


def _of_station(instrument: str | None, file: Path | None) -> _Target:
    """Return an instrument of a station file by its name or its address."""
    station = Station.read(file or shipped_station_path())
    tables = station.table.instruments
    by_address = {canonical(table.address): name for name, table in tables.items()}
    name = instrument if instrument in tables else by_address.get(canonical(instrument or ""))
    if name is None:
        valid = (
            f"an instrument of {station.path} or its address, one of {', '.join(tables)} "
            "(for another address, give --driver and --address)"
        )
        raise SettingError("NAME", instrument, valid)
    table = tables[name]
    library = library_of(station.table, station.path, name)
    opener = station.driver(name).open
    return _Target(name, table.driver, table.address, library, table.options, opener)


def _of_driver(driver: str, address: str | None, library: str) -> _Target:
    from labctl.instruments import drivers

    if address is None:
        raise SettingError("--address", address, "given with --driver")
    return _Target(address, driver, address, library, {}, drivers.load(driver).open)


def _refuse_alone(options: Mapping[str, object], with_: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise SettingError(name, value, f"given with {with_}, or left out")


def _refuse_beside(options: Mapping[str, object], beside: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise SettingError(name, str(value), f"left out beside {beside}")


@contextmanager
def _opened(target: _Target) -> Iterator[Openable]:
    """Open an instrument and close it in any case; its state stays as it is."""
    with interruptible():
        opened = target.opener(
            target.name, target.address, library=target.library, options=target.options
        )
        try:
            yield opened
        finally:
            opened.close()


def _message_transport(name: str, wires: list[MessageTransport]) -> MessageTransport:
    if not wires:
        valid = "an instrument with text messages of one line; this one has none"
        raise SettingError("NAME", name, valid)
    return wires[0]
