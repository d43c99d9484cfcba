"""Both parties' machines: any order of events keeps to the tables; a refusal changes nothing.

Ordinary sessions are played in test_parties.py and test_session.py; here messages come in wrong
orders, name wrong frames, and give wrong values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_pair import FRAME, QUERIES, SETTINGS, SIZES, Pair, images, network, played

from labctl.errors import LabctlError, ProtocolError, SettingError, VerificationError
from labctl.protocols.alignment import AlignmentFrame, AlignmentPurpose
from labctl.protocols.client.machine import ClientMachine
from labctl.protocols.encoding import Floats
from labctl.protocols.link import Exchange, LayerLight, ReturnedLight
from labctl.protocols.messages import (
    VERSION,
    Abort,
    AbortCode,
    AlignArmed,
    Aligned,
    AlignOpen,
    AlignTaken,
    Armed,
    Close,
    Done,
    Frames,
    Hello,
    LayerOpen,
    Message,
    Queries,
    Queued,
    Ready,
    Realign,
    Taken,
    Verdict,
    Welcome,
)
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.session import Session
from labctl.protocols.states import CLIENT, SERVER, Machine, Own, PartyState, Table
from labctl.protocols.verification.client_guard import ClientGuard, PowerLimit, PowerMonitor

STEPS = len(Pair().steps())
JUDGED = [step.__name__ for step in Pair().steps()].index("judge") + 1
HERE, ELSEWHERE = Frames(0, 0, QUERIES), Frames(1, 1, 3)
SHAPES = Pair().server.server.shapes
WELCOME = Welcome(VERSION, SIZES, Pair().server.server.carried.inputs, SHAPES, False, 4.0)
MESSAGES: tuple[Message, ...] = (
    Hello(),
    Hello((7,)),
    WELCOME,
    replace(WELCOME, version=VERSION + 1),
    replace(WELCOME, shapes=SHAPES[:1]),
    Queries(QUERIES),
    Queries(1),
    *(kind(frames) for kind in (LayerOpen, Armed, Taken) for frames in (HERE, ELSEWHERE)),
    LayerOpen(Frames(0, 0, 1)),
    Ready(),
    Queued(1),
    Realign(),
    *(
        say(frame)
        for say in (AlignOpen, AlignArmed, partial(AlignTaken, enough=True))
        for frame in (FRAME, replace(FRAME, number=1), replace(FRAME, layer=2))
    ),
    Aligned(),
    Done(QUERIES),
    Done(5),
    Verdict(True, "consistent", 0.9, 0.1, 1.0, 1e-10),
    Close(),
)
ABORT = Abort(AbortCode.OPERATOR, "stop")


# What is computed when first asked for is no change.
CACHED = {"photons", "by_quadrature", "row_powers", "quadrature_sums"}


def seen(machine: Machine) -> str:
    """Return a digest of everything that a machine holds, of its class' tables nothing."""
    digest, met = hashlib.sha256(), set()

    def walk(thing: object) -> None:
        if isinstance(thing, (str, int, float, bool, type(None))):
            digest.update(repr(thing).encode())
            return
        if id(thing) in met:
            return
        met.add(id(thing))
        if isinstance(thing, np.ndarray):
            digest.update(thing.tobytes())
        elif isinstance(thing, dict):
            for key in (each for each in thing if each not in (*CACHED, "_table")):
                walk(thing[key])
        elif isinstance(thing, (list, tuple)):
            for each in thing:
                walk(each)
        elif hasattr(thing, "__dict__"):
            walk(vars(thing))
        else:
            digest.update(str(id(thing)).encode())

    walk(vars(machine))
    return digest.hexdigest()


# The tables themselves.


@pytest.mark.parametrize(("table", "start"), [(SERVER, PartyState.NEW), (CLIENT, PartyState.NEW)])
def test_every_state_of_a_table_is_reached_and_leads_on_or_is_an_end(
    table: Table, start: PartyState
) -> None:
    reached, front = {start}, [start]
    while front:
        for following in table[front.pop()].values():
            front += following - reached
            reached |= following
    assert reached == set(table)
    ends = {state for state, events in table.items() if not events}
    assert ends == {PartyState.CLOSED, PartyState.ABORTED}
    for state, events in table.items():
        assert state in ends or {Abort, Own.ABORT} <= set(events)


def test_a_whole_session_passes_through_all_states_but_the_abort() -> None:
    pair = Pair()
    server, client = {pair.server.state}, {pair.client.state}
    for step in pair.steps():
        step()
        server.add(pair.server.state)
        client.add(pair.client.state)
    assert server == set(SERVER) - {PartyState.ABORTED}
    assert client == set(CLIENT) - {PartyState.ABORTED}
    assert pair.client.verdict is not None
    assert pair.client.verdict.accepted is None  # the receiver was not calibrated


# Out of place.


@pytest.mark.parametrize("after", range(STEPS + 1))
def test_a_message_out_of_place_is_refused_and_changes_nothing(after: int) -> None:
    """Every message in every state of a session, at both parties, by name of what is expected."""
    pair = played(after)
    for party, machine, table in (("server", pair.server, SERVER), ("client", pair.client, CLIENT)):
        before = seen(machine)
        for message in MESSAGES:
            if type(message) in table[machine.state]:
                continue
            with pytest.raises(ProtocolError, match=f"{party} .*{type(message).__name__}"):
                machine.receive(message)
            assert seen(machine) == before


def test_the_refusal_names_state_message_and_what_is_due() -> None:
    with pytest.raises(ProtocolError) as refused:
        played(4).server.receive(Close())
    assert str(refused.value) == (
        "server (layer opened): message Close is out of place; expected message Armed or message "
        "Abort or its own abort"
    )
    assert refused.value.party == "server"
    assert refused.value.state == "layer opened"


events = st.sampled_from(
    [
        *((party, message) for party in ("server", "client") for message in MESSAGES),
        *((party, ABORT) for party in ("server", "client")),
        ("client", "hello"),
        ("client", "begin"),
        ("client", "begin badly"),
        ("client", "arrived"),
        ("client", "measured"),
        ("client", "measured badly"),
        ("client", "answers"),
        ("client", "close"),
        ("client", "ready"),
        ("client", "align taken"),
        ("server", "align"),
        ("server", "aligned"),
        ("server", "returned"),
        ("server", "returned badly"),
        ("server", "judge"),
    ]
)


def happen(pair: Pair, party: str, event: str | Message) -> None:
    rows = pair.server.server.shapes[0].rows
    one = np.ones((rows, 1), np.float32)
    own: dict[str, Callable[[], object]] = {
        "hello": pair.client.hello,
        "begin": lambda: pair.client.begin(images()),
        "begin badly": lambda: pair.client.begin(images()[:, 1:]),
        "arrived": lambda: pair.client.arrived(None),
        "measured": lambda: pair.client.measured(np.ones((QUERIES, rows), np.float32)),
        "measured badly": lambda: pair.client.measured(np.ones((QUERIES, 9), np.float32)),
        "answers": pair.client.answers,
        "close": pair.client.close,
        "ready": pair.client.ready,
        "align taken": lambda: pair.client.align_taken(enough=False),
        "align": lambda: pair.server.align(FRAME),
        "aligned": pair.server.aligned,
        "returned": lambda: pair.server.returned(
            ReturnedLight(np.ones((rows, SIZES[0] // 2), np.float32), one, 0 * one)
        ),
        "returned badly": lambda: pair.server.returned(
            ReturnedLight(np.ones((rows, 9), np.float32), one, 0 * one)
        ),
        "judge": pair.server.judge,
    }
    if isinstance(event, str):
        own[event]()
        return
    machine = pair.server if party == "server" else pair.client
    machine.receive(event)


@settings(max_examples=150)
@given(start=st.integers(0, STEPS), order=st.lists(events, max_size=12))
def test_no_order_of_events_leads_out_of_the_tables(
    start: int, order: list[tuple[str, str | Message]]
) -> None:
    """From anywhere in a session an event moves along the table, or is refused without a trace."""
    pair = played(start)
    tables = {"server": SERVER, "client": CLIENT}
    for party, event in order:
        machine = pair.server if party == "server" else pair.client
        other = pair.client if party == "server" else pair.server
        before, state, beside = seen(machine), machine.state, seen(other)
        try:
            happen(pair, party, event)
        except LabctlError:
            assert machine.state is state
            assert seen(machine) == before
        else:
            follows = set().union(*tables[party][state].values())
            assert machine.state in follows
        assert seen(other) == beside


# Wrong frames, wrong values, wrong networks.


def test_only_the_frames_that_are_open_are_armed_and_taken() -> None:
    with pytest.raises(ProtocolError, match=r"layer 2, queries 2 to 4 .* expected layer 1"):
        played(5).server.receive(Armed(ELSEWHERE))
    pair = played(6)
    with pytest.raises(ProtocolError, match="expected layer 1, queries 1 to 2"):
        pair.server.receive(Taken(Frames(0, 0, 1)))
    assert pair.server.state is PartyState.SENDING


def test_frames_come_in_order_and_no_more_than_were_asked_for() -> None:
    for frames in (Frames(1, 0, 2), Frames(0, 1, 1), Frames(0, 0, 3)):
        with pytest.raises(ProtocolError, match="expected layer 1 from query 1, to at most 2"):
            played(4).client.receive(LayerOpen(frames))


def test_a_batch_does_not_end_before_its_last_layer() -> None:
    with pytest.raises(ProtocolError, match="ended after 0 layers; expected 2 after 2"):
        played(4).client.receive(Done(QUERIES))


def test_light_and_setting_are_there_only_while_frames_are_open() -> None:
    pair = played(5)
    assert pair.client.setting.shape == (QUERIES, SIZES[0])
    with pytest.raises(ProtocolError, match="client is not armed"):
        _ = pair.server.light
    with pytest.raises(ProtocolError, match="no frames are open"):
        _ = played(4).client.setting


def test_more_frames_than_were_sent_do_not_come_back_and_fewer_are_not_taken() -> None:
    pair = played(7)
    assert pair.exchange is not None
    for _returned in pair.exchange.returned:
        pair.server.returned(_returned)
    with pytest.raises(ProtocolError, match="2 frames is there already"):
        pair.server.returned(_returned)
    pair = played(7)
    assert pair.exchange is not None
    pair.server.returned(next(iter(pair.exchange.returned)))
    with pytest.raises(ProtocolError, match=r"1 frames came back .* expected 2"):
        pair.server.receive(Taken(HERE))


@pytest.mark.parametrize(
    ("welcome", "problem"),
    [
        (replace(WELCOME, version=7), f"version 7; expected {VERSION}"),
        (replace(WELCOME, shapes=SHAPES[:1]), "1 layers for 3 sizes"),
        (replace(WELCOME, shapes=SHAPES[::-1]), "layer 1 has 3 rows; expected 4"),
        (
            replace(WELCOME, shapes=tuple(replace(shape, block_modes=2) for shape in SHAPES)),
            "blocks of 2 modes; expected 3",
        ),
    ],
)
def test_a_network_that_does_not_suit_is_refused(welcome: Welcome, problem: str) -> None:
    client = ClientMachine()
    client.hello()
    with pytest.raises(ProtocolError, match=problem):
        client.receive(welcome)
    assert client.state is PartyState.GREETED


def test_a_client_of_another_version_is_not_welcome() -> None:
    server = Pair().server
    with pytest.raises(ProtocolError, match=rf"versions \(7,\); expected {VERSION}"):
        server.receive(Hello((7,)))
    assert server.state is PartyState.NEW


@pytest.mark.parametrize(
    "make",
    [
        lambda: Queries(0),
        lambda: Frames(-1, 0, 1),
        lambda: Frames(0, -1, 1),
        lambda: Frames(0, 0, 0),
        lambda: AlignmentFrame(AlignmentPurpose.RANGE, -1, 0, 1),
    ],
)
def test_messages_that_no_party_could_mean_cannot_be_made(make: Callable[[], object]) -> None:
    with pytest.raises(SettingError, match="or more"):
        make()


def test_answers_are_handed_out_once() -> None:
    client = played(JUDGED - 1).client
    with pytest.raises(ProtocolError, match="no batch has ended"):
        client.answers()


# Ends.


@pytest.mark.parametrize("after", range(STEPS))
def test_either_party_may_abort_at_any_time_and_nothing_follows(after: int) -> None:
    pair = played(after)
    abort = pair.server.abort(AbortCode.TIMEOUT, "nobody answers")
    assert pair.client.receive(abort) is None
    for machine in (pair.server, pair.client):
        assert machine.state is PartyState.ABORTED
        assert machine.ended == abort
        with pytest.raises(ProtocolError, match="comes after the end: nobody answers"):
            machine.receive(Hello())


def test_light_that_is_too_bright_aborts_the_client_before_anything_is_returned() -> None:
    limit = PowerLimit(SETTINGS.light.mean_photons / 1e4)
    guard = ClientGuard(limit, PowerMonitor(share=0.5), seed=1)
    session = Session(network(), SETTINGS, ModeLink(SETTINGS), guard=guard)
    with pytest.raises(VerificationError, match="brighter light"):
        list(session.run(images(40)))
    assert session.client_half.ended is not None
    assert session.client_half.ended.code is AbortCode.LIGHT_TOO_BRIGHT
    assert session.server_half.ended == session.client_half.ended
    assert all(part.samples == 0 for part in session.server.evidence)


class BrokenLink(ModeLink):
    """A link that fails at its second layer."""

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        if light.layer == 1:
            raise VerificationError("the fibre is cut")
        return super().exchange(light, coefficients)


def test_a_batch_that_fails_aborts_the_session_and_its_evidence_stays() -> None:
    session = Session(network(), SETTINGS, BrokenLink(SETTINGS))
    with pytest.raises(VerificationError, match="cut"):
        list(session.run(images()))
    assert session.server_half.ended == Abort(AbortCode.PROTOCOL, "the fibre is cut")
    with pytest.raises(ProtocolError, match="comes after the end: the fibre is cut"):
        list(session.run(images()))
    assert session.verdict(figures=False).samples == QUERIES * SIZES[1] * SIZES[0] // 2


def test_images_that_are_refused_leave_a_session_as_it_was() -> None:
    session = Session(network(), SETTINGS, ModeLink(SETTINGS))
    with pytest.raises(SettingError, match="the network has 6 inputs"):
        list(session.run(images()[:, 1:]))
    assert len(list(session.run(images()))) == 1
