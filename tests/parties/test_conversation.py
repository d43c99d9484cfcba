"""A conversation: what is wrong with a message ends it by name, on both sides and for good.

The oracle of wrong orders is not the conversation's own book: it is the state that the listener's
machine is really in, its table, and who spoke next in a whole session.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("google.protobuf", reason="needs labctl[parties]")

import two_parties
from two_parties import KEYS, MESSAGES, Key, TwoParties, accept, played, refused

from labctl.errors import AbortedError, ProtocolError
from labctl.parties.channel_messages import Closed, Resume, Resumed, Said
from labctl.parties.codec import MOST_BYTES, encode
from labctl.parties.conversation import CLOSING_DEADLINE_S, DEADLINES_S, Conversation
from labctl.parties.envelope import Envelope
from labctl.parties.places import TABLES, Places, other
from labctl.parties.seals import Seal, statement
from labctl.party import Party
from labctl.protocols.messages import (
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
    Queries,
    Ready,
    Taken,
    Verdict,
    Welcome,
)
from labctl.protocols.states import PartyState

SERVER, CLIENT = Party.SERVER, Party.CLIENT
WHOLE = played(MESSAGES)
# Who says the message of each place of a session; the client is first.
TURNS = [party for party, _ in WHOLE.said]
HERE = Frames(0, 0, 2)
VERDICT = Verdict(True, "consistent", 0.9, 0.1, 1.0, 1e-10)


def welcome() -> Welcome:
    pair = TwoParties()
    found = pair.server.receive(pair.client.hello())
    assert isinstance(found, Welcome)
    return found


SAYINGS: tuple[Said, ...] = (
    Hello(),
    welcome(),
    Ready(),
    AlignOpen(two_parties.FRAME),
    AlignArmed(two_parties.FRAME),
    AlignTaken(two_parties.FRAME, enough=True),
    Aligned(),
    Queries(2),
    LayerOpen(HERE),
    Armed(HERE),
    Taken(HERE),
    Done(2),
    VERDICT,
    Close(),
    Closed(),
    Resume(0),
    Resumed(),
)


def forged(pair: TwoParties, speaker: Party, message: Said, *, more: bool = False) -> bytes:
    """Return a message that fits in everything but perhaps its place, as a peer could make it."""
    side, key = pair.sides[speaker], KEYS[speaker].identity
    first = all(party is not speaker for party, _ in pair.said)
    session = pair.sides[SERVER].session
    signature = None
    if isinstance(message, Close | Closed):
        signature = key.sign(statement(speaker, session, side.transcript))
    return Envelope(
        session,
        side.sequence,
        side.transcript,
        encode(message),
        more,
        pair.nonces[speaker] if first else None,
        key.certificate if first else None,
        signature,
    ).encoded()


# Whole sessions.


def test_both_sides_of_a_session_end_closed_with_the_same_transcript_signed_by_both() -> None:
    ends = WHOLE.sides[CLIENT], WHOLE.sides[SERVER]
    assert all(side.over and side.ended is None for side in ends)
    assert ends[0].transcript == ends[1].transcript
    assert ends[0].session == ends[1].session != bytes(16)
    assert ends[0].seals == ends[1].seals
    for party, seal in ends[0].seals.items():
        verifies = accept(seal.certificate)
        assert seal.party is party
        assert verifies(seal.statement, seal.signature)
        assert not verifies(replace(seal, transcript=bytes(32)).statement, seal.signature)
    assert {WHOLE.machine(party).state for party in Party} == {PartyState.CLOSED}
    assert ends[0].committed == ends[1].committed == two_parties.QUERIES


def test_no_two_sessions_say_the_same_bytes() -> None:
    again = played(MESSAGES)
    assert again.sides[CLIENT].session != WHOLE.sides[CLIENT].session
    assert not {data for _, data in again.said} & {data for _, data in WHOLE.said}


def test_neither_weights_nor_images_are_in_what_is_said() -> None:
    everything = b"".join(data for _, data in WHOLE.said)
    values = [*two_parties.IMAGES.ravel()]
    values += [value for layer in two_parties.network().layers for value in layer.ravel()]
    for value in values:
        for form in (value.astype("<f4"), value.astype("<f8")):
            assert form.tobytes() not in everything


@pytest.mark.parametrize("after", range(MESSAGES))
def test_one_side_speaks_at_a_time_and_waits_no_longer_than_its_state_allows(after: int) -> None:
    pair = played(after)
    speaker = TURNS[after]
    assert pair.sides[speaker].my_turn
    assert not pair.sides[other(speaker)].my_turn
    assert pair.sides[speaker].deadline_s is None
    waits = pair.sides[other(speaker)].deadline_s
    closing = after == MESSAGES - 1
    state = pair.machine(other(speaker)).state
    assert waits == (CLOSING_DEADLINE_S if closing else DEADLINES_S[state])
    with pytest.raises(ProtocolError, match="out of turn"):
        pair.sides[other(speaker)].send(Queries(1))


def test_every_state_of_a_session_has_a_deadline() -> None:
    ends = {PartyState.CLOSED, PartyState.ABORTED}
    assert set(DEADLINES_S) == set(PartyState) - ends


def test_the_book_of_places_holds_the_states_that_the_machines_come_to() -> None:
    places, pair = Places(), TwoParties()
    seen: dict[Party, set[PartyState]] = {party: set() for party in Party}
    for _ in islice(pair.session(), MESSAGES - 1):
        speaker, data = pair.said[-1]
        # The speaker's machine has moved; the listener's has, or takes the message after this.
        before = places.of(other(speaker))
        message = two_parties.decoded(data)
        assert not isinstance(message, Closed | Resume | Resumed)
        places.say(speaker, type(message))
        assert pair.machine(speaker).state in places.of(speaker)
        assert pair.machine(other(speaker)).state in before | places.of(other(speaker))
        for party in Party:
            seen[party] |= places.of(party)
    for party in Party:
        assert seen[party] == set(TABLES[party]) - {PartyState.ABORTED, PartyState.NEW}


# Wrong orders.

orders = st.tuples(st.integers(0, MESSAGES - 1), st.sampled_from(Party), st.sampled_from(SAYINGS))


def wrong_order(after: int, speaker: Party, message: Said, *, more: bool) -> None:
    """Have a party say a message after that many others, which must be wrong, and look."""
    pair = played(after)
    listener = other(speaker)
    ours = isinstance(message, Closed | Resume | Resumed)
    due = TABLES[listener][pair.machine(listener).state]
    closing = after == MESSAGES - 1
    in_turn = TURNS[after] is speaker
    in_place = (not ours and type(message) in due) or (closing and isinstance(message, Closed))
    assume(not (in_turn and in_place))
    error = refused(pair, listener, forged(pair, speaker, message, more=more))
    if after == 0 and speaker is SERVER:
        # Nobody knows the client's nonce before it spoke.
        assert error.code == AbortCode.OTHER_SESSION
        return
    assert error.code == (AbortCode.OUT_OF_PLACE if in_turn else AbortCode.OUT_OF_TURN)
    assert type(message).__name__ in error.reason


def test_drawn_wrong_orders_are_aborted_by_name_on_both_sides() -> None:
    drawn = set()

    @given(orders, st.booleans())
    @settings(derandomize=True, max_examples=150, deadline=None)
    def draw(order: tuple[int, Party, Said], more: bool) -> None:
        wrong_order(*order, more=more)
        after, speaker, message = order
        drawn.add((after, speaker, type(message)))

    draw()
    assert len(drawn) >= 40


@pytest.mark.parametrize("after", range(1, MESSAGES))
def test_a_message_that_was_said_before_is_refused(after: int) -> None:
    """All of them, to the side that took them, and to the side that said them."""
    for number in range(after):
        for listener in Party:
            pair = played(after)
            error = refused(pair, listener, pair.said[number][1])
            again = {AbortCode.OLD_SEQUENCE, AbortCode.MALFORMED, AbortCode.OTHER_SESSION}
            assert error.code in (again if number < 2 else {AbortCode.OLD_SEQUENCE})


@pytest.mark.parametrize("after", range(2, MESSAGES - 1))
def test_a_message_that_leaves_one_out_is_refused(after: int) -> None:
    pair, ahead = played(after), played(after)
    skipped = Envelope.decoded(forged(ahead, TURNS[after], Queries(2)))
    data = replace(skipped, session=pair.sides[CLIENT].session, sequence=after + 1).encoded()
    assert refused(pair, other(TURNS[after]), data).code == AbortCode.SKIPPED_SEQUENCE


@pytest.mark.parametrize("after", range(2, MESSAGES))
def test_a_message_of_another_session_is_refused(after: int) -> None:
    pair = played(after)
    data = played(after + 1).said[after][1]
    assert refused(pair, other(TURNS[after]), data).code == AbortCode.OTHER_SESSION


@pytest.mark.parametrize("after", range(1, MESSAGES))
def test_a_message_after_another_past_is_refused(after: int) -> None:
    pair = played(after)
    data = forged(pair, TURNS[after], Queries(2))
    changed = replace(Envelope.decoded(data), transcript=bytes(32)).encoded()
    assert refused(pair, other(TURNS[after]), changed).code == AbortCode.OTHER_TRANSCRIPT


def test_both_sides_notice_that_one_message_was_another_on_the_way() -> None:
    """Somebody between both who changes a message in place of its sender cannot hide it."""
    pair = played(2)
    pair.sides[CLIENT].send(Queries(2))
    pair.sides[SERVER].receive(forged(played_like(pair), CLIENT, Queries(1)))
    opened = pair.sides[SERVER].send(LayerOpen(HERE))
    with pytest.raises(AbortedError) as client:
        pair.sides[CLIENT].receive(opened)
    assert client.value.code == AbortCode.OTHER_TRANSCRIPT
    farewell = pair.sides[CLIENT].farewell
    assert farewell is not None
    with pytest.raises(AbortedError, match="other-transcript") as server:
        pair.sides[SERVER].receive(farewell)
    assert server.value.code in {AbortCode.OTHER_TRANSCRIPT, AbortCode.OLD_SEQUENCE}
    assert {pair.machine(party).state for party in Party} == {PartyState.ABORTED}


def played_like(pair: TwoParties) -> TwoParties:
    """Return parties of the same session before its third message."""
    like = TwoParties()
    like.said, like.sides = pair.said, {CLIENT: pair.sides[SERVER], SERVER: pair.sides[SERVER]}
    return like


@pytest.mark.parametrize("listener", Party)
@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_what_is_no_message_is_refused(after: int, listener: Party) -> None:
    for data in (b"", b"\x00", b"GET / HTTP/1.1\r\n\r\n", bytes(1000)):
        assert refused(played(after), listener, data).code == AbortCode.MALFORMED
    error = refused(played(after), listener, bytes(MOST_BYTES + 1))
    assert error.code == AbortCode.OVERSIZED
    assert "1000001 bytes; expected at most 1000000" in error.reason


def test_the_first_message_shows_who_speaks_and_no_other_does() -> None:
    first = Envelope.decoded(WHOLE.said[0][1])
    for data in (replace(first, nonce=None), replace(first, certificate=None)):
        assert refused(TwoParties(), SERVER, data.encoded()).code == AbortCode.MALFORMED
    for shown in ("nonce", "certificate"):
        pair = played(2)
        later = Envelope.decoded(forged(pair, CLIENT, Queries(2)))
        nonce = first.nonce if shown == "nonce" else None
        certificate = first.certificate if shown == "certificate" else None
        data = replace(later, nonce=nonce, certificate=certificate)
        assert refused(pair, SERVER, data.encoded()).code == AbortCode.MALFORMED


def test_a_certificate_that_is_not_accepted_ends_the_session() -> None:
    pair = TwoParties()
    data = replace(Envelope.decoded(WHOLE.said[0][1]), certificate=b"nobody").encoded()
    assert refused(pair, SERVER, data).code == AbortCode.CERTIFICATE


def test_a_server_that_makes_up_the_number_of_a_session_is_refused() -> None:
    pair = played(1)
    data = forged(pair, SERVER, SAYINGS[1])
    changed = replace(Envelope.decoded(data), session=b"made up, all 16b").encoded()
    assert refused(pair, CLIENT, changed).code == AbortCode.OTHER_SESSION


# The end.


@pytest.mark.parametrize(("after", "message"), [(MESSAGES - 2, Close()), (MESSAGES - 1, Closed())])
def test_an_end_that_is_not_signed_by_its_sender_is_none(after: int, message: Said) -> None:
    pair = played(after)
    speaker, listener = TURNS[after], other(TURNS[after])
    good = Envelope.decoded(forged(pair, speaker, message))
    own = statement(speaker, pair.sides[SERVER].session, pair.sides[SERVER].transcript)
    wrong = (
        None,
        b"signed",
        Key().identity.sign(own),
        KEYS[speaker].identity.sign(own + b"."),
        KEYS[speaker].identity.sign(own.replace(str(speaker).encode(), str(listener).encode())),
    )
    for signature in wrong:
        again = played(after)
        error = refused_end(again, speaker, replace(good, signature=signature))
        assert error.code == AbortCode.SIGNATURE


def refused_end(pair: TwoParties, speaker: Party, closing: Envelope) -> AbortedError:
    """Have the other side take an end that fits in all but its signature."""
    side = pair.sides[speaker]
    fits = replace(
        closing, session=side.session, sequence=side.sequence, transcript=side.transcript
    )
    return refused(pair, other(speaker), fits.encoded())


def test_no_other_message_is_signed() -> None:
    pair = played(2)
    data = replace(Envelope.decoded(forged(pair, CLIENT, Queries(2))), signature=b"s").encoded()
    assert refused(pair, SERVER, data).code == AbortCode.MALFORMED


@pytest.mark.parametrize("ending", Party)
@pytest.mark.parametrize("after", range(MESSAGES - 1))
def test_an_abort_ends_both_sides_at_any_moment_also_where_it_crosses_a_message(
    after: int, ending: Party
) -> None:
    for crosses in (False, True):
        pair = played(after)
        speaker = TURNS[after]
        if crosses and speaker is not ending:
            # What the other side says meanwhile does not come before the abort.
            pair.sides[speaker].send(spoken(pair, after))
        data = pair.sides[ending].abort(AbortCode.OPERATOR, "enough")
        answer = pair.sides[other(ending)].receive(data)
        assert answer == Abort(AbortCode.OPERATOR, "enough")
        ended = {pair.machine(party).ended for party in Party}
        assert ended == {answer}
        assert {pair.sides[party].ended_by for party in Party} == {ending}


def spoken(pair: TwoParties, after: int) -> Said:
    return two_parties.decoded(WHOLE.said[after][1])


def test_an_abort_of_another_session_is_none() -> None:
    pair = played(4)
    data = played(4).sides[SERVER].abort(AbortCode.OPERATOR, "enough")
    assert refused(pair, CLIENT, data).code == AbortCode.OTHER_SESSION


def test_an_abort_that_was_said_before_the_last_answer_is_none() -> None:
    pair = played(5)
    old = Envelope.decoded(pair.said[3][1])
    data = replace(old, body=encode(Abort(AbortCode.OPERATOR, "enough"))).encoded()
    assert refused(pair, CLIENT, data).code == AbortCode.OLD_SEQUENCE


def test_a_machine_that_is_bound_late_ends_too() -> None:
    pair = TwoParties()
    side = Conversation(CLIENT, KEYS[CLIENT].identity, accept)
    side.abort(AbortCode.SAFETY, "the shutter is stuck")
    side.bind(pair.client)
    assert pair.client.ended == Abort(AbortCode.SAFETY, "the shutter is stuck")


def test_a_seal_says_what_was_signed() -> None:
    seal = Seal(SERVER, bytes(16), bytes(32), b"", b"")
    assert seal.statement == b"labctl.v1 end of a session\nserver\n" + bytes(48)
