"""Text from elsewhere cannot act on a terminal, nor through the log of a program that uses us."""

from __future__ import annotations

import io
import logging

import pytest

from labctl.errors import InstrumentError
from labctl.visible import visible, visible_line, visible_logger

EVIL = "LASER\x1b[2J\x9b31m\u202eoff\r\nall is safe"


def test_controls_are_written_out() -> None:
    assert visible(EVIL) == "LASER\\x1b[2J\\x9b31m\\u202eoff\\r\nall is safe"
    assert "\n" not in visible_line(EVIL)


@pytest.mark.parametrize("how", ["argument", "message", "error"])
def test_a_host_programs_log_gets_visible_text(how: str) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    log = visible_logger("labctl.tests.visible")
    log.addHandler(handler)
    try:
        if how == "argument":
            log.error("%s is %s", "laser", EVIL)
        elif how == "message":
            log.error(EVIL)
        else:
            try:
                raise InstrumentError("laser", EVIL)
            except InstrumentError:
                log.exception("failed")
    finally:
        log.removeHandler(handler)
    text = written.getvalue()
    assert "\\x1b[2J" in text
    assert not any(control in text for control in "\x1b\x9b\u202e\r")
    assert how == "error" or text.count("\n") == 1


def test_all_of_our_loggers_are_such() -> None:
    import labctl.station  # noqa: F401 - makes its loggers

    for name in ("labctl.station.station", "labctl.wire", "labctl.station.exits"):
        filters = logging.getLogger(name).filters
        assert any("_VisibleRecords" in [c.__name__ for c in type(f).__mro__] for f in filters)
