"""The checks that every driver has to pass, as a list for `pytest.mark.parametrize`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from labctl.instruments import drivers
from labctl.testing.alone import ALONE
from labctl.testing.on_bench import OnBench, PanelPlace, opened
from labctl.testing.shape import CAPABILITIES, capabilities_of, channels_of
from labctl.testing.with_panel import WITH_PANEL, sets_and_reads_back


@dataclass(frozen=True)
class Check:
    """One check: call it. It fails with an AssertionError; its name is its id in pytest."""

    name: str
    run: Callable[[], None]

    def __call__(self) -> None:
        """Run the check."""
        self.run()

    @property
    def __name__(self) -> str:
        # pytest takes it for the id of a parameter.
        return self.name


def driver_checks(
    driver: type[Any] | str,
    *,
    bench: str | Path | None = None,
    address: str | None = None,
    options: Mapping[str, object] | None = None,
    questions: tuple[bytes, ...] = (),
    values: Mapping[str, tuple[Any, ...]] | None = None,
) -> tuple[Check, ...]:
    """Return all checks of a driver; nothing is opened before one is called.

    driver: the class, or the name of its entry point. bench: a bench file with the driver's front
    panel, which adds the checks that need one; address: of the panel there; options: what the
    driver is opened with. questions: messages without a question mark that set nothing, without
    their terminator, where the instrument has such. values: of properties, by the name of the
    setter, where drawn ones do not fit; `()` for a property that the panel lacks.

    Parts and channels of the driver are checked with it. Raises SettingError if there is no such
    driver, ValueError for a bench without an address.
    """
    kind: type[Any] = drivers.load(driver) if isinstance(driver, str) else driver
    alone = [Check(check.__name__, partial(check, kind)) for check in ALONE]
    if bench is None:
        return tuple(alone)
    if address is None:
        raise ValueError("address: expected the panel's address in the bench file, got None")
    place = PanelPlace(
        Path(bench).resolve(), address, dict(options or {}), questions, dict(values or {})
    )
    with_panel = (*WITH_PANEL, *map(sets_and_reads_back, capabilities_to_check(kind)))
    return (
        *alone,
        *(Check(check.__name__, partial(_on_panel, kind, place, check)) for check in with_panel),
    )


def capabilities_to_check(driver: type[Any]) -> list[type[Any]]:
    """Return the capabilities that a driver or one of its channels has."""
    kinds = (driver, *channels_of(driver).values())
    owned = {each for kind in kinds for each in capabilities_of(kind)}
    return [each for each in CAPABILITIES if each in owned]


def _on_panel(kind: type[Any], place: PanelPlace, check: Callable[[OnBench], None]) -> None:
    with opened(kind, place) as bench:
        check(bench)
