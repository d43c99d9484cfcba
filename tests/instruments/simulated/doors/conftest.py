"""A served bench that each test may open."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import pyvisa
from door_sessions import Offers, Open, serving
from pyvisa.resources import MessageBasedResource


@pytest.fixture(scope="module")
def offers() -> Iterator[Offers]:
    """One bench for all tests here; none may fail behind its doors."""
    with serving() as (process, found):
        yield found
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors.decode()) == (0, "")


@pytest.fixture
def visa(offers: Offers) -> Iterator[Open]:
    """Open an instrument through a door by pyvisa-py; all are closed in the end."""
    manager = pyvisa.ResourceManager("@py")

    def open_door(name: str, door: str, **attributes: Any) -> MessageBasedResource:
        place = offers[name][door]
        address = f"ASRL{place}::INSTR" if door == "pty" else place
        resource = manager.open_resource(address, **attributes)
        assert isinstance(resource, MessageBasedResource)
        resource.timeout = 20_000
        return resource

    yield open_door
    manager.close()
