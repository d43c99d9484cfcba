"""What cannot be on a bench is refused before it is built: file, line, key and remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from labctl.errors import StationFileError
from labctl.instruments.simulated.bench_tables import BenchFile, TapName
from labctl.instruments.simulated.bench_truth import CUT_OFF, RELATIVE
from labctl.instruments.simulated.own_panels import InstrumentTable, Wire
from labctl.instruments.simulated.panel_tables import (
    BiasTable,
    DriveName,
    GeneratorTable,
    ItlaTable,
)
from labctl.toml_file import place

Keys = tuple[str, ...]

MONITOR = "monitor"
# A pulse of 7/8 slot has three samples or more above 0.
_LEAST_SLOT = 4
# Grid samples in a filter's response: all light is folded with it.
_LONGEST_RESPONSE = 1000
_SHARES = (("laser", "signal_fraction"), ("client", "lo_fraction"), ("server", "lo_fraction"))
# Of the client's own laser, if it has one.
_CLIENT_SHARE = _SHARES[1]
_AT_MOST_ONE = frozenset({"signal_fraction", "lo_fraction", "tap_fraction", "efficiency"})
_PAIRS = (("modulator_i", "modulator_q"), ("rotation_real", "rotation_imaginary"))


def refusal(path: Path, keys: Keys, fault: str) -> StationFileError:
    """Return the error for a key of a bench file, with its line if there is a file."""
    at = place(path, *keys) if path.is_file() else str(path)
    return StationFileError(f"{at}: {'.'.join(keys)}{fault}")


def bandwidths_hz(table: BenchFile) -> dict[str, float]:
    """Return the analogue bandwidths of a bench by the table that has them."""
    return {
        "generators": table.generators.bandwidth_hz,
        "client": table.client.bandwidth_hz,
        "server": table.server.bandwidth_hz,
    }


def check_parts(table: BenchFile, path: Path) -> None:
    """Refuse values that do not fit together: bandwidths, slots, shares of light, spreads."""
    _check_bandwidths(table, path)
    _check_slots(table, path)
    _check_spreads(table, path)
    _check_taps(table, path)
    _check_shares(table, path)
    _check_pilots(table, path)


def _check_pilots(table: BenchFile, path: Path) -> None:
    """Refuse measured pilots in a unit that turns light round: they would pass it in each turn."""
    if table.rotation.pilots_measured and table.rotation.turns > 1:
        raise refusal(
            path,
            ("rotation", "pilots_measured"),
            f": must be false for a unit of {table.rotation.turns} turns",
        )


def _check_bandwidths(table: BenchFile, path: Path) -> None:
    """Refuse analogue bandwidths that the time grid cannot hold, or only at great length."""
    lowest_hz, nyquist_hz = table.grid_hz / _LONGEST_RESPONSE, table.grid_hz / 2.0
    for name, bandwidth_hz in bandwidths_hz(table).items():
        if not lowest_hz <= bandwidth_hz < nyquist_hz:
            raise refusal(
                path,
                (name, "bandwidth_hz"),
                f" = {bandwidth_hz:g}: must be at least grid_hz / {_LONGEST_RESPONSE} = "
                f"{lowest_hz:g} and below grid_hz / 2 = {nyquist_hz:g}",
            )


def _check_slots(table: BenchFile, path: Path) -> None:
    """Refuse symbols that do not take a whole number of grid samples, at least four."""
    samples = table.grid_hz / table.rotation.symbol_rate_hz
    if samples < _LEAST_SLOT - 1e-9 or abs(samples - round(samples)) > 1e-9 * samples:
        raise refusal(
            path,
            ("rotation", "symbol_rate_hz"),
            f" = {table.rotation.symbol_rate_hz:g}: must be grid_hz = {table.grid_hz:g} over a "
            f"whole number, {_LEAST_SLOT} or more",
        )


def _check_spreads(table: BenchFile, path: Path) -> None:
    """Refuse spreads that could draw a share of light above 1, or a bandwidth beyond the grid."""
    for key, values in RELATIVE.items():
        spread = getattr(table.spread, key)
        for part, name in values:
            value = getattr(getattr(table, part), name)
            if name in _AT_MOST_ONE and value * (1.0 + CUT_OFF * spread) > 1.0:
                raise refusal(
                    path,
                    ("spread", key),
                    f" = {spread:g}: could draw {part}.{name} = {value:g} above 1; must be at "
                    f"most {(1.0 / value - 1.0) / CUT_OFF:.3g}",
                )
            highest_hz = value * (1.0 + CUT_OFF * spread)
            if name == "bandwidth_hz" and highest_hz >= table.grid_hz / 2.0:
                raise refusal(
                    path,
                    ("spread", key),
                    f" = {spread:g}: could draw {part}.{name} = {value:g} up to grid_hz / 2; must "
                    f"be below {(0.5 * table.grid_hz / value - 1.0) / CUT_OFF:.3g}",
                )


def _check_taps(table: BenchFile, path: Path) -> None:
    """Refuse spreads that could draw a tap of half of the light, or more."""
    spread = table.spread.splitters
    for name, tap in table.taps.items():
        if tap.fraction * (1.0 + CUT_OFF * spread) >= 0.5:
            raise refusal(
                path,
                ("spread", "splitters"),
                f" = {spread:g}: could draw taps.{name}.fraction = {tap.fraction:g} up to 0.5; "
                f"must be below {(0.5 / tap.fraction - 1.0) / CUT_OFF:.3g}",
            )


def _check_shares(table: BenchFile, path: Path) -> None:
    """Refuse splitters that give more light than the laser has."""
    own = table.client_laser is not None
    shares = [share for share in _SHARES if not (own and share == _CLIENT_SHARE)]
    total = sum(getattr(getattr(table, part), name) for part, name in shares)
    most = 1.0 / (1.0 + CUT_OFF * table.spread.splitters)
    if total > most + 1e-9:
        names = " + ".join(f"{part}.{name}" for part, name in shares)
        raise refusal(
            path,
            _SHARES[0],
            f": {names} = {total:g}: must be at most {most:.4g}, all light of the laser"
            + (" less three spreads" if table.spread.splitters > 0.0 else ""),
        )


def check_wiring(table: BenchFile, path: Path) -> None:
    """Refuse connectors that are used twice, do not exist, or lack what must be on them."""
    _check_names(table, path)
    used: dict[str, Keys] = {}
    for name, panel in table.panels.items():
        for keys, what in _connections(name, panel):
            if what in used:
                raise refusal(
                    path,
                    keys,
                    f": {what} is taken by {'.'.join(used[what])}; each can be wired once",
                )
            used[what] = keys
    _check_electrodes(table, path)
    _check_partners(table, path, used)
    _check_client_laser(table, path)


def _check_client_laser(table: BenchFile, path: Path) -> None:
    """Refuse a panel for a laser that is not there, and a laser that nothing switches on."""
    panels = [
        name
        for name, panel in table.panels.items()
        if isinstance(panel, ItlaTable) and panel.laser == "client"
    ]
    if panels and table.client_laser is None:
        raise refusal(
            path,
            ("panels", panels[0], "laser"),
            " = 'client': there is no such laser; add a table [client_laser]",
        )
    if table.client_laser is not None and not panels:
        raise refusal(
            path,
            ("client_laser",),
            ': no panel switches it on; add one of type "itla" with laser = "client"',
        )


def _check_electrodes(table: BenchFile, path: Path) -> None:
    """Refuse two loads on one bias electrode."""
    electrodes: dict[str, str] = {}
    for name, load in table.loads.items():
        if load.electrode is None:
            continue
        if load.electrode in electrodes:
            raise refusal(
                path,
                ("loads", name, "electrode"),
                f": electrode {load.electrode!r} has load {electrodes[load.electrode]!r} already; "
                "each takes one",
            )
        electrodes[load.electrode] = name


def _connections(name: str, table: InstrumentTable) -> Iterator[tuple[Keys, str]]:
    """Yield what a panel occupies, and the key of the file."""
    here = ("panels", name)
    yield (*here, "address"), f"address {table.address!r}"
    if isinstance(table, ItlaTable):
        yield here, f"the {table.laser}'s laser"
    if isinstance(table, BiasTable):
        yield (*here, "bias"), f"the controller of electrode {table.bias!r}"
        if table.attenuator:
            yield (*here, "attenuator"), "the link's attenuator"
    for wire in table.wires():
        if wire.part != "input":
            yield (*here, *wire.keys), _taken(wire)


def _taken(wire: Wire) -> str:
    """Return what a wire occupies, in words."""
    if wire.part in ("laser", "attenuator"):
        return f"the {wire.part} of probe {wire.name!r}"
    return f"{wire.part} {wire.name!r}"


def _check_names(table: BenchFile, path: Path) -> None:
    """Refuse probes and loads that the file does not have."""
    for name in (MONITOR, *get_args(TapName)):
        if name in table.probes:
            raise refusal(
                path, ("probes", name), f": this name is the link's {name} tap; take another"
            )
    for name, panel in table.panels.items():
        for key, kind, wanted in _named(panel):
            there = _parts(table, kind)
            if wanted not in there:
                raise refusal(
                    path,
                    ("panels", name, *key),
                    f" = {wanted!r}: no such {kind}; there are: {', '.join(there) or 'none'}",
                )


def _parts(table: BenchFile, kind: str) -> list[str]:
    if kind == "input":
        return [*table.probes, MONITOR, *table.taps]
    if kind == "drive":
        return list(get_args(DriveName))
    return list(table.probes if kind == "probe" else table.loads)


def _named(table: InstrumentTable) -> Iterator[tuple[Keys, str, str]]:
    """Yield key, kind and name of the parts that a panel is wired to."""
    for wire in table.wires():
        kind = "probe" if wire.part in ("laser", "attenuator") else wire.part
        yield wire.keys, kind, wire.name


def _check_partners(table: BenchFile, path: Path, used: dict[str, Keys]) -> None:
    """Refuse half of a pair of drives, and listening on a trigger cable that nothing drives."""
    for pair in _PAIRS:
        for drive, partner in (pair, pair[::-1]):
            if f"drive {drive!r}" in used and f"drive {partner!r}" not in used:
                raise refusal(
                    path,
                    used[f"drive {drive!r}"],
                    f" = {drive!r}: no output drives {partner!r}; the two work only together",
                )
    generators = [
        (name, panel) for name, panel in table.panels.items() if isinstance(panel, GeneratorTable)
    ]
    if any(panel.trigger == "sends" for _, panel in generators):
        return
    for name, panel in generators:
        if panel.trigger == "receives":
            raise refusal(
                path,
                ("panels", name, "trigger"),
                " = 'receives': no generator sends; set trigger = \"sends\" on one",
            )
