"""Which frames are opened, armed for and taken: those of queries, and those to align by."""

from __future__ import annotations

from dataclasses import replace

import pytest
from machine_pair import FRAME, SETTINGS, Pair, network, played

from labctl.errors import ProtocolError
from labctl.protocols.alignment import AlignmentFrame
from labctl.protocols.disguise import FRESH_ORDER, PLAIN
from labctl.protocols.messages import (
    AlignArmed,
    AlignOpen,
    AlignTaken,
    Armed,
    Done,
    Frames,
    Hello,
    LayerOpen,
    Queries,
    Taken,
)
from labctl.protocols.server.disguised import honest_server
from labctl.protocols.server.machine import ServerMachine
from labctl.protocols.states import PartyState

JUDGED = [step.__name__ for step in Pair().steps()].index("judge") + 1


@pytest.mark.parametrize("other", [replace(FRAME, number=1), replace(FRAME, layer=0)])
def test_only_the_frame_to_align_by_that_is_open_is_armed_and_taken(other: AlignmentFrame) -> None:
    pair = played(JUDGED + 2)
    with pytest.raises(ProtocolError, match="expected AlignmentFrame"):
        pair.server.receive(AlignArmed(other))
    pair.server.receive(AlignArmed(FRAME))
    with pytest.raises(ProtocolError, match="expected AlignmentFrame"):
        pair.server.receive(AlignTaken(other, enough=True))
    assert pair.server.state is PartyState.ALIGN_SENDING


def test_a_frame_to_align_by_is_of_a_layer_that_there_is() -> None:
    pair = played(JUDGED + 1)
    with pytest.raises(ProtocolError, match="of 2 layers"):
        pair.client.receive(AlignOpen(replace(FRAME, layer=2)))
    assert pair.client.state is PartyState.ALIGNING


def test_frames_of_a_fresh_order_are_opened_one_query_at_a_time() -> None:
    pair = Pair(replace(SETTINGS, light=replace(SETTINGS.light, disguise=FRESH_ORDER)))
    pair.hello()
    pair.welcome()
    pair.begin()
    pair.ask()
    opened = pair.message
    assert opened == LayerOpen(Frames(0, 0, 1))


def test_frames_of_one_light_are_opened_one_query_at_a_time_where_hardware_needs_it() -> None:
    plain = replace(SETTINGS, light=replace(SETTINGS.light, disguise=PLAIN))
    server = ServerMachine(honest_server(network(), plain), plain, one_by_one=True)
    server.receive(Hello())
    opened = server.receive(Queries(3))
    seen_frames = []
    while isinstance(opened, LayerOpen):
        seen_frames.append(opened.frames)
        server.receive(Armed(opened.frames))
        opened = server.receive(Taken(opened.frames))
    assert seen_frames == [Frames(layer, query, 1) for layer in range(2) for query in range(3)]
    assert opened == Done(3)
