"""A VISA library over a made-up bench."""

from collections.abc import Iterator

import pytest
import pyvisa
from stand_in_door import Bench, Door, StandIn


@pytest.fixture
def door() -> Iterator[Door]:
    library = StandIn("stand-in")
    manager = pyvisa.ResourceManager(library)
    assert isinstance(library, StandIn)
    bench = library._opened_world()
    assert isinstance(bench, Bench)
    yield Door(manager, bench, library)
    manager.close()
