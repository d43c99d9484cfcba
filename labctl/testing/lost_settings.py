"""Settings that a driver says it reads back: lost or changed on their way, they are found.

A class attribute `reads_back` names the setters. Each is set to two values in turn, which shows the
message that carries them. Then that message is lost, or arrives with the other value in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from labctl.errors import InstrumentError, InstrumentTimeoutError, ReplyError
from labctl.testing.alone import about
from labctl.testing.on_bench import OnBench
from labctl.testing.properties import only_argument, two_values
from labctl.testing.shape import parts_of


def what_is_read_back_is_found_when_it_is_lost(bench: OnBench) -> None:
    """Lost once it is sent again; lost or changed each time it is an error with both values."""
    for part in (*parts_of(bench.instrument), *bench.channels()):
        for name in sorted(getattr(type(part), "reads_back", ())):
            with about(f"{type(part).__name__}.{name}"):
                each = only_argument(part, name, bench.place.values)
                new, old = two_values(each)
                _check(bench, each.put, old, new)
    bench.instrument.safe_state()


def _check(bench: OnBench, put: Callable[[Any], object], old: Any, new: Any) -> None:
    put(new)  # what is set up the first time is set up
    before, after = _settings(bench, put, old), _settings(bench, put, new)
    carrying = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(carrying) == 1, f"expected one message with the value, got {carrying}"
    [(old_message, new_message)] = carrying
    # Where settings are acknowledged, one that is lost is a time-out.
    with _on_the_way(bench, new_message, None, 1) as hits, suppress(InstrumentTimeoutError):
        put(old)
        put(new)
    assert hits
    both = r"expected .* after it was set, got"
    for instead, error, words in ((None, InstrumentError, None), (old_message, ReplyError, both)):
        put(old)
        with (
            _on_the_way(bench, new_message, instead, None) as hits,
            pytest.raises(error, match=words),
        ):
            put(new)
        assert hits
    put(new)


def _settings(bench: OnBench, put: Callable[[Any], object], value: Any) -> list[bytes]:
    """Return what is sent that asks nothing."""
    bench.sent.clear()
    put(value)
    return bench.settings()


@contextmanager
def _on_the_way(
    bench: OnBench, message: bytes, instead: bytes | None, times: int | None
) -> Iterator[list[bytes]]:
    """Let a message be lost, or another one arrive; yields those that were hit."""
    write = bench.library.write
    hits: list[bytes] = []

    def sent(session: Any, data: bytes) -> Any:
        if message not in bytes(data) or (times is not None and len(hits) >= times):
            return write(session, data)
        hits.append(bytes(data))
        if instead is None:
            return len(data)
        return write(session, bytes(data).replace(message, instead))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.library, "write", sent)
        yield hits
