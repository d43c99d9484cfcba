"""Sessions that go on over another stream: between queries, once, for the same certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

pytest.importorskip("google.protobuf", reason="needs labctl[parties]")

import two_parties
from two_parties import KEYS, MESSAGES, Key, TwoParties, accept, played, refused

from labctl.errors import AbortedError, ProtocolError
from labctl.parties.channel_messages import Resume, Resumed, Said
from labctl.parties.conversation import Conversation
from labctl.parties.seals import Ticket, fingerprint
from labctl.parties.tickets import Tickets
from labctl.party import Party
from labctl.protocols.messages import AbortCode, Close, Hello, Queries
from labctl.protocols.states import PartyState

SERVER, CLIENT = Party.SERVER, Party.CLIENT


def between() -> tuple[TwoParties, dict[Party, Ticket]]:
    pair = played(MESSAGES - 2)
    tickets = {party: pair.sides[party].ticket() for party in Party}
    found = {party: ticket for party, ticket in tickets.items() if ticket is not None}
    assert found.keys() == {SERVER, CLIENT}
    return pair, found


def resumed(pair: TwoParties, tickets: dict[Party, Ticket], client: Key = KEYS[CLIENT]) -> None:
    keys = {SERVER: KEYS[SERVER], CLIENT: client}
    pair.sides = {
        party: Conversation(party, keys[party].identity, accept, ticket=tickets[party])
        for party in Party
    }
    for party in Party:
        pair.sides[party].bind(pair.machine(party))
    pair.said = []


def test_a_session_goes_on_over_another_stream_between_two_queries() -> None:
    pair, tickets = between()
    before = pair.sides[CLIENT].session
    resumed(pair, tickets)
    server, client = pair.sides[SERVER], pair.sides[CLIENT]
    server.receive(client.send(Resume(tickets[CLIENT].committed)))
    client.receive(server.send(Resumed()))
    server.receive(client.send(pair.client.begin(two_parties.IMAGES)))
    assert server.session == client.session == before
    assert server.transcript == client.transcript
    assert client.committed == two_parties.QUERIES


@pytest.mark.parametrize("after", range(MESSAGES))
def test_a_ticket_is_given_between_queries_alone(after: int) -> None:
    pair = played(after)
    agreed = pair.client.state is PartyState.AGREED
    assert (pair.sides[CLIENT].ticket() is not None) == agreed


def test_a_ticket_holds_for_the_certificate_that_it_was_given_to() -> None:
    pair, tickets = between()
    assert tickets[SERVER].peer == fingerprint(KEYS[CLIENT].identity.certificate)
    resumed(pair, tickets, Key())
    error = refused(pair, SERVER, pair.sides[CLIENT].send(Resume(two_parties.QUERIES)))
    assert error.code == AbortCode.CERTIFICATE


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda ticket: replace(ticket, transcript=bytes(32)), AbortCode.OTHER_TRANSCRIPT),
        (lambda ticket: replace(ticket, sequence=3), AbortCode.OLD_SEQUENCE),
        (lambda ticket: replace(ticket, sequence=99), AbortCode.SKIPPED_SEQUENCE),
        (lambda ticket: replace(ticket, session=bytes(range(16))), AbortCode.OTHER_SESSION),
        (lambda ticket: replace(ticket, committed=1), AbortCode.OUT_OF_PLACE),
    ],
)
def test_a_ticket_of_another_state_of_the_session_is_refused(
    change: Callable[[Ticket], Ticket], code: AbortCode
) -> None:
    pair, tickets = between()
    changed = {**tickets, CLIENT: change(tickets[CLIENT])}
    resumed(pair, changed)
    data = pair.sides[CLIENT].send(Resume(changed[CLIENT].committed))
    with pytest.raises(AbortedError) as error:
        pair.sides[SERVER].receive(data)
    assert error.value.code == code
    assert pair.server.state is PartyState.ABORTED


@pytest.mark.parametrize("message", [Hello(), Queries(2), Resumed(), Close()])
def test_nothing_comes_before_the_session_goes_on(message: Said) -> None:
    pair, tickets = between()
    resumed(pair, tickets)
    with pytest.raises(ProtocolError, match="out of place"):
        pair.sides[CLIENT].send(message)


def test_a_kept_ticket_is_used_once_in_its_time_by_its_certificate() -> None:
    now = [0.0]
    tickets = Tickets(600.0, lambda: now[0])
    one, two = (Ticket(bytes([each]) * 16, 4, bytes(32), 2, "peer") for each in (1, 2))
    tickets.keep(one)
    tickets.keep(two)
    assert tickets.take(one.session, "another") is None
    assert tickets.take(one.session, "peer") == one
    assert tickets.take(one.session, "peer") is None
    now[0] = 600.1
    assert tickets.take(two.session, "peer") is None


def test_only_the_newest_tickets_are_kept() -> None:
    tickets = Tickets(600.0)
    every = [Ticket(bytes([each]) * 16, 4, bytes(32), 2, "peer") for each in range(1, 101)]
    for ticket in every:
        tickets.keep(ticket)
    kept = [ticket for ticket in every if tickets.take(ticket.session, "peer") is not None]
    assert kept == every[-64:]
