"""What is said where light must go off holds nothing up, and comes in order once it can."""

from __future__ import annotations

import io
import logging
import os
import threading
import time

from labctl.haste import at_most
from labctl.said_in_time import Sayer
from labctl.visible import visible_logger


def test_what_cannot_be_written_is_waited_for_once_and_written_later_in_order() -> None:
    sayer, free, written = Sayer(), threading.Event(), list[int]()
    began_s = time.monotonic()
    sayer.say(free.wait, within_s=0.05)
    for number in range(50):
        sayer.say(lambda number=number: written.append(number), within_s=5.0)  # type: ignore[misc]
    assert time.monotonic() - began_s < 4.0
    assert written == []
    free.set()
    sayer.finish(10.0)
    assert written == list(range(50))


def test_a_lost_reader_is_no_error_of_who_says() -> None:
    sayer, written = Sayer(), list[str]()
    closed = io.StringIO()
    closed.close()
    sayer.say(lambda: closed.write("lost"))
    sayer.say(lambda: written.append("next"))
    sayer.finish(10.0)
    assert written == ["next"]


def test_a_forked_child_says_by_a_thread_of_its_own() -> None:
    sayer, said = Sayer(), list[int]()
    sayer.say(lambda: said.append(1))
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        sayer.say(lambda: os.write(writing, b"child"))
        os._exit(0)
    os.waitpid(child, 0)
    os.set_blocking(reading, False)
    assert os.read(reading, 5) == b"child"
    os.close(reading)
    os.close(writing)


def test_a_handler_that_hangs_holds_up_who_is_in_haste_for_a_moment_alone() -> None:
    class Stuck(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            free.wait()
            taken.append(record.getMessage())

    free, taken, log = threading.Event(), list[str](), visible_logger("labctl.tests.stuck")
    handler = Stuck()
    log.addHandler(handler)
    try:
        began_s = time.monotonic()
        with at_most(1.0):
            log.error("off")
            log.error("is tried again\x1b[2J")
        assert time.monotonic() - began_s < 4.0
        free.set()
        with at_most(1.0):
            log.error("done")
        for _ in range(100):
            if len(taken) == 3:
                break
            time.sleep(0.05)
        assert taken == ["off", "is tried again\\x1b[2J", "done"]
    finally:
        log.removeHandler(handler)
