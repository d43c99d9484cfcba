"""Two sites with a station each: aligned, classified, judged and booked by messages alone."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("google.protobuf", reason="needs labctl[parties]")

from own_laser import own_laser_station
from two_sites import CLIENT, SERVER, BatonTalk, Sites, two_sites

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.dsp.sender import FrameSender
from labctl.errors import (
    AbortedError,
    BudgetError,
    ProtocolError,
    SettingError,
    SignalError,
    VerificationError,
)
from labctl.parties.client_run import ClientResult, ClientRun
from labctl.parties.lease import Lease
from labctl.parties.offer import Offer
from labctl.parties.server_host import Caller, ServerHost, _Booking
from labctl.protocols.client.bench_receiver import BenchReceiver
from labctl.protocols.disguise import FRESH_ORDER
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.ledger.accounts import Party, weights_account
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.collective_store import CollectiveStore
from labctl.protocols.ledger.cumulative_account import CumulativeAccount
from labctl.protocols.messages import (
    AbortCode,
    AlignArmed,
    Armed,
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
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.settings import Light, VerificationSettings
from labctl.station.equipment import client_equipment_of, server_equipment_of

MU = 15.0
SIZES = (12, 6, 3)
DRAW = np.random.default_rng(5)


def grouped(rows: int, inputs: int) -> Floats:
    """Return weights by which each third of the rows sums up a third of the inputs."""
    own = np.kron(np.eye(3), np.ones((rows // 3, inputs // 3)))
    return (own * DRAW.uniform(1.0, 2.0, own.shape) + DRAW.normal(0.0, 0.1, own.shape)).astype(
        np.float32
    )


NETWORK = Network((grouped(6, 12), grouped(3, 6)), "two sites", {})
# An image of each class, so plain that noise changes none: outputs differ by 2.3 times the
# weights' RMS, their noise is 0.36 of it at F = 8.
CLASSES = [2, 0, 1]
PLAIN = np.kron(np.eye(3), np.ones(4)).astype(np.float32)[CLASSES]
FINGERPRINT = "ab" * 32
ALICE = weights_account("alice", NETWORK.sha256)


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    with two_sites(tmp_path) as opened:
        yield opened


@pytest.fixture
def ledgers(tmp_path: Path) -> dict[Party, Ledger]:
    return {party: Ledger(tmp_path / f"{party}-ledger", party) for party in Party}


class Session:
    """One session between the two sites, and what came of it."""

    def __init__(
        self, sites: Sites, ledgers: dict[Party, Ledger], folder: Path, *, gain: float = 1.3
    ) -> None:
        server, client = (sites.stations[party] for party in (SERVER, CLIENT))
        self.host = ServerHost(
            Offer(
                NETWORK,
                Light(MU, FRESH_ORDER),
                gain,
                Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
                VerificationSettings(),
            ),
            server_equipment_of(server),
            server.table.frame,
            ledgers[SERVER],
            folder / "server-runs",
        )
        self.run_of_client = ClientRun(
            client_equipment_of(client),
            client.table.frame,
            ledgers[CLIENT],
            folder / "client-runs",
        )
        self.sites = sites
        self.verdicts: list[Verdict] = []
        self.run_of_client = replace(
            self.run_of_client, on_batch=lambda images, verdict: self.verdicts.append(verdict)
        )
        self.result: ClientResult | None = None

    def run(self, *, batch_images: int = 2) -> dict[Party, BaseException]:
        """Classify the plain images; return what each side raised."""

        def client(talk: BatonTalk) -> None:
            images = LabelledImages(PLAIN, np.array(CLASSES, np.uint8))
            self.result = self.run_of_client.classify(talk, images, batch_images=batch_images)

        def server(talk: BatonTalk) -> None:
            self.host.serve(Caller("alice", FINGERPRINT), talk)

        self.sites.run(server, client)
        return self.sites.errors


def aborted(error: BaseException) -> AbortedError:
    assert isinstance(error, AbortedError)
    return error


@pytest.fixture
def session(sites: Sites, ledgers: dict[Party, Ledger], tmp_path: Path) -> Session:
    return Session(sites, ledgers, tmp_path)


def test_images_are_classified_judged_and_booked_by_messages_alone(
    session: Session, ledgers: dict[Party, Ledger]
) -> None:
    assert session.run() == {}
    assert session.result is not None
    assert (session.result.classes, session.result.right) == (CLASSES, len(PLAIN))
    assert [verdict.accepted for verdict in session.verdicts] == [True, True]
    account = ledgers[SERVER].balance(ALICE)
    assert account.spent.value(Meter.QUERIES) == len(PLAIN)
    assert account.spent.value(Meter.WEIGHT_BITS) > 0.0
    assert ledgers[SERVER].open_queries() == {}
    assert ledgers[CLIENT].open_queries() == {}
    inputs = session.run_of_client.ledger.balances().values()
    assert [round(each.spent.value(Meter.QUERIES)) for each in inputs] == [1] * len(PLAIN)
    server, client = (session.sites.talks[party].conversation for party in (SERVER, CLIENT))
    assert server.transcript == client.transcript
    assert server.session == client.session


def test_a_budget_that_does_not_allow_a_batch_keeps_its_light_in(
    session: Session, ledgers: dict[Party, Ledger]
) -> None:
    ledgers[SERVER].set_budget(ALICE, {Meter.QUERIES: 2})
    errors = session.run()
    assert len(session.verdicts) == 1
    assert isinstance(errors[SERVER], BudgetError)
    assert aborted(errors[CLIENT]).code == AbortCode.BUDGET
    assert ledgers[SERVER].balance(ALICE).spent.value(Meter.QUERIES) == 2
    sent = [message for message in session.sites.said if isinstance(message, LayerOpen)]
    assert len(sent) == 2 * len(NETWORK.layers)


@pytest.mark.parametrize("dies", list(Party))
def test_a_side_that_fails_in_a_batch_ends_the_session_and_the_batch_counts_whole(
    dies: Party, session: Session, ledgers: dict[Party, Ledger]
) -> None:
    at = LayerOpen if dies is SERVER else Armed

    def fail(message: Message) -> None:
        if isinstance(message, at) and message.frames.layer == 1:
            raise SignalError("the fibre is cut")

    session.sites.talks[dies].before_send = fail
    errors = session.run()
    other = CLIENT if dies is SERVER else SERVER
    assert isinstance(errors[dies], SignalError)
    assert aborted(errors[other]).code == AbortCode.SAFETY
    assert "cut" not in str(errors[other])
    assert session.verdicts == []
    for party in Party:
        assert ledgers[party].open_queries() == {}
    spent = ledgers[SERVER].balance(ALICE).spent
    assert spent.value(Meter.QUERIES) == 2
    taken = [balance.spent.value(Meter.QUERIES) for balance in ledgers[CLIENT].balances().values()]
    assert taken == [1, 1]


@pytest.mark.parametrize("dies", [None, *Party])
def test_the_laser_is_dark_before_the_run_file_and_the_account_are_ended(
    dies: Party | None, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    lit: list[bool] = []
    own = _Booking.close

    def close(booking: _Booking) -> None:
        lit.append(session.host.equipment.laser.emission())
        own(booking)

    def fail(message: Message) -> None:
        if isinstance(message, LayerOpen if dies is SERVER else Armed):
            lit.append(session.host.equipment.laser.emission())
            raise SignalError("the fibre is cut")

    monkeypatch.setattr(_Booking, "close", close)
    if dies is not None:
        session.sites.talks[dies].before_send = fail
    session.run()
    assert lit == ([False] if dies is None else [True, False])


def test_stations_that_disagree_on_the_timing_do_not_begin(session: Session) -> None:
    frame = session.host.frame.model_copy(update={"guard_symbols": 20})
    session.host = replace(session.host, frame=frame)
    errors = session.run()
    assert isinstance(errors[SERVER], ProtocolError)
    assert isinstance(errors[CLIENT], AbortedError)
    assert "another [frame]" in str(errors[CLIENT])


def test_the_client_is_told_what_is_sent_and_what_is_left(
    session: Session, ledgers: dict[Party, Ledger]
) -> None:
    ledgers[SERVER].set_budget(ALICE, {Meter.WEIGHT_BITS: 5.0})
    assert session.run(batch_images=4) == {}
    (welcome,) = [each for each in session.sites.said if isinstance(each, Welcome)]
    terms = welcome.terms
    assert terms is not None
    assert (terms.model, terms.model_sha256) == (NETWORK.name, NETWORK.sha256)
    assert (welcome.mean_photons, welcome.gain, welcome.sizes) == (MU, 1.3, SIZES)
    assert terms.bits_per_weight_left == 5.0
    assert terms.queries_left is not None


def test_light_leaves_only_for_a_client_that_is_armed(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[Message] = []
    send = FrameSender.send

    def sends(sender: FrameSender) -> None:
        before.append(session.sites.said[-1])
        send(sender)

    monkeypatch.setattr(FrameSender, "send", sends)
    assert session.run() == {}
    armed = [each for each in session.sites.said if isinstance(each, Armed | AlignArmed)]
    assert before == armed


def test_a_verdict_that_rejects_ends_the_session_and_both_know_it(
    session: Session, ledgers: dict[Party, Ledger]
) -> None:
    strict = replace(session.host.offer.verification, weights_bits_limit=0.01)
    session.host = replace(session.host, offer=replace(session.host.offer, verification=strict))
    errors = session.run()
    assert isinstance(errors.pop(SERVER), VerificationError)
    assert errors == {}
    assert session.result is not None
    assert session.result.verdict is not None
    assert session.result.verdict.accepted is False
    assert "above" in session.result.verdict.reason
    assert len(session.result.classes) == 2
    assert ledgers[SERVER].balance(ALICE).spent.value(Meter.QUERIES) == 2
    assert ledgers[CLIENT].open_queries() == {}


def limited(session: Session, batch_queries: int) -> None:
    """Have the server take that many queries in a batch at most."""
    offer = replace(session.host.offer, batch_queries=batch_queries)
    session.host = replace(session.host, offer=offer)


def test_a_batch_as_long_as_the_server_takes_is_served(session: Session) -> None:
    limited(session, 2)
    assert session.run(batch_images=2) == {}


def test_a_client_asks_for_no_batch_that_is_longer_than_agreed(
    session: Session, ledgers: dict[Party, Ledger]
) -> None:
    limited(session, 1)
    errors = session.run(batch_images=2)
    for error in (errors[SERVER], errors[CLIENT]):
        assert (aborted(error).code, aborted(error).by) == (AbortCode.BATCH_TOO_LONG, "client")
        assert "a batch of 2 queries; expected at most 1" in str(error)
    # Before anything was lit.
    assert [type(each) for each in session.sites.said] == [Hello, Welcome]
    assert not ledgers[CLIENT].exists
    assert ALICE not in (ledgers[SERVER].balances() if ledgers[SERVER].exists else {})


def test_a_server_refuses_a_batch_that_is_longer_than_agreed(
    session: Session, ledgers: dict[Party, Ledger]
) -> None:
    limited(session, 1)
    talk = session.sites.talks[CLIENT]
    receive = talk.receive

    def widened() -> Message:
        """Be a client that takes the terms for others."""
        message = receive()
        if not isinstance(message, Welcome) or message.terms is None:
            return message
        return replace(message, terms=replace(message.terms, batch_queries=2))

    talk.receive = widened  # type: ignore[method-assign]
    errors = session.run(batch_images=2)
    for error in (errors[SERVER], errors[CLIENT]):
        assert (aborted(error).code, aborted(error).by) == (AbortCode.BATCH_TOO_LONG, "server")
    assert not any(isinstance(each, LayerOpen) for each in session.sites.said)
    if ledgers[SERVER].exists:
        assert ledgers[SERVER].balance(ALICE).spent.value(Meter.QUERIES) == 0
        assert ledgers[SERVER].open_queries() == {}
    assert ledgers[CLIENT].open_queries() == {}


@pytest.mark.parametrize("batch_queries", [0, 2**31])
def test_a_limit_of_batches_is_a_number_that_can_be_said(
    session: Session, batch_queries: int
) -> None:
    with pytest.raises(SettingError, match=f"batch_queries = {batch_queries}"):
        limited(session, batch_queries)


def test_a_session_is_over_once(session: Session) -> None:
    over: list[int] = []
    session.host = replace(session.host, on_end=lambda: over.append(len(session.sites.said)))
    assert session.run() == {}
    assert over == [len(session.sites.said)]


def test_a_session_that_is_lost_and_kept_is_not_over(session: Session) -> None:
    over: list[int] = []
    session.host = replace(session.host, on_end=lambda: over.append(1))

    def lose(images: int, verdict: Verdict) -> None:
        raise AbortedError("server", str(AbortCode.PEER_LOST), "the cable was cut")

    session.run_of_client = replace(session.run_of_client, on_batch=lose)
    # A lost connection says nothing more.
    session.sites.talks[CLIENT].abort = lambda code, reason: None  # type: ignore[method-assign]
    errors = session.run()
    assert aborted(errors[SERVER]).code == AbortCode.PEER_LOST
    session.host.expire()
    assert over == []
    session.host.close()
    assert over == [1]


def test_who_waits_for_the_light_is_told_and_touches_no_instrument(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(say_s=0.0)
    session.host = replace(session.host, lease=lease)
    other = lease.turn("bob")
    other.take()
    settled: list[int] = []
    settle = BenchReceiver.settle

    def settles(receiver: BenchReceiver) -> None:
        settled.append(len(session.sites.said))
        settle(receiver)

    def tell(message: Message) -> None:
        queued = [each for each in session.sites.said if isinstance(each, Queued)]
        if isinstance(message, Queued) and len(queued) == 1:
            other.leave()

    monkeypatch.setattr(BenchReceiver, "settle", settles)
    session.sites.talks[SERVER].before_send = tell
    assert session.run() == {}
    kinds = [type(each) for each in session.sites.said]
    assert kinds[2] is Ready
    assert kinds[3:5] == [Queued, Queued]
    assert [each.ahead for each in session.sites.said if isinstance(each, Queued)] == [1, 1]
    assert settled == [kinds.index(AlignArmed)]
    assert session.result is not None
    assert session.result.classes == CLASSES


def test_a_session_that_lost_the_light_between_batches_aligns_again_and_goes_on(
    session: Session, ledgers: dict[Party, Ledger]
) -> None:
    lease = Lease(rest_s=0.0)
    session.host = replace(session.host, lease=lease)

    def lose(message: Message) -> None:
        """Give the light to another and back, before the second batch is asked for."""
        verdicts = sum(isinstance(each, Verdict) for each in session.sites.said)
        asked = sum(isinstance(each, Queries) for each in session.sites.said)
        if isinstance(message, Queries) and verdicts == asked == 1:
            other = lease.turn("bob")
            other.take()
            other.leave()

    session.sites.talks[CLIENT].before_send = lose
    assert session.run(batch_images=1) == {}
    said = session.sites.said
    (at,) = [place for place, each in enumerate(said) if isinstance(each, Realign)]
    assert isinstance(said[at + 1], Ready)
    # Nothing was reserved, sent or counted for the batch that had to be asked for again.
    assert [each.count for each in said if isinstance(each, Queries)] == [1, 1, 1, 1]
    assert session.result is not None
    assert session.result.classes == CLASSES
    assert [verdict.accepted for verdict in session.verdicts] == [True] * 3
    assert ledgers[SERVER].balance(ALICE).spent.value(Meter.QUERIES) == len(PLAIN)
    inputs = ledgers[CLIENT].balances().values()
    assert [round(each.spent.value(Meter.QUERIES)) for each in inputs] == [1] * len(PLAIN)
    for party in Party:
        assert ledgers[party].open_queries() == {}
    ledger = ledgers[SERVER]
    kept = CollectiveStore(ledger.folder, ledger.secret()).kept(ALICE)
    assert [each.sums.queries for each in kept] == [len(PLAIN)]
    # One for each turn: every alignment calibrates again.
    assert len(kept[0].sums.parts) == 2
    balance = ledger.balance(ALICE)
    bound = CumulativeAccount(kept, session.host.offer.verification.failure_probability)
    booked = balance.spent.value(Meter.CUMULATIVE_BITS)
    assert booked >= bound.bits(balance.spent.value(Meter.PHOTONS)) - 1e-9


def test_a_client_that_is_silent_with_the_light_that_others_wait_for_is_cut_off(
    session: Session, ledgers: dict[Party, Ledger]
) -> None:
    now_s = 0.0
    lease = Lease(lambda: now_s)
    session.host = replace(session.host, lease=lease)
    waiting = threading.Thread(target=lambda: lease.turn("bob").take(patience_s=1e9), daemon=True)

    def dawdle(message: Message) -> None:
        nonlocal now_s
        if isinstance(message, Taken):
            if not waiting.is_alive():
                waiting.start()
                while not lease.wanted:
                    time.sleep(0.001)
            now_s += 66.0

    session.sites.talks[CLIENT].before_send = dawdle
    errors = session.run()
    assert aborted(errors[CLIENT]).code == AbortCode.TIMEOUT
    assert "others wait for" in str(errors[CLIENT])
    assert ledgers[SERVER].open_queries() == {}
    assert ledgers[SERVER].balance(ALICE).spent.value(Meter.QUERIES) == 2
    waiting.join(20.0)
    assert not waiting.is_alive()


def test_a_client_with_its_own_laser_needs_nothing_of_the_server(
    ledgers: dict[Party, Ledger], tmp_path: Path
) -> None:
    """The server's F is that of a heterodyne receiver; what the phases leave, the client says.

    At G = 2 that is 8.0, as for the homodyne client at 1.3.
    """
    demo = tmp_path / "demo"
    demo.mkdir()
    with two_sites(tmp_path, demo=own_laser_station(demo, frequency_error_hz=9e6)) as opened:
        session = Session(opened, ledgers, tmp_path, gain=2.0)
        assert session.run() == {}
    result = session.result
    assert result is not None
    assert (result.classes, result.right) == (CLASSES, len(PLAIN))
    assert [verdict.accepted for verdict in session.verdicts] == [True, True]
    assert result.phase_rad2 is not None
    assert 1e-4 < result.phase_rad2 < 0.02
    terms = result.agreed.terms
    assert terms is not None
    heterodyne = CloneReceiver(2.0, 1.0, Homodyne(0.826 / 2.0, 0.068)).referred_noise
    expected = 2.0 * MU * math.sqrt(0.894) / heterodyne
    assert terms.signal_to_noise == pytest.approx(expected, rel=1e-3)
    assert expected == pytest.approx(8.0, abs=0.1)
