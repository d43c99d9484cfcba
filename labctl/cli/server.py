"""`labctl server`: offer a network to clients over the instruments of one's own site."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl import service
from labctl.cli import link_options, options, output
from labctl.cli.choices import assumptions
from labctl.data.models import load_network
from labctl.data.runs_folder import require_runs_folder
from labctl.errors import (
    AbortedError,
    BudgetError,
    IdentityError,
    LabctlError,
    ProtocolError,
    VerificationError,
)
from labctl.instruments.transports.masking import masked
from labctl.party import Party
from labctl.protocols.disguise import FRESH_ORDER
from labctl.protocols.leakage import Trust
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.settings import Light, VerificationSettings
from labctl.protocols.terms import BATCH_QUERIES, MOST_QUERIES
from labctl.protocols.verification.verdict import VerificationReport
from labctl.protocols.weight_search import look_at, require_not_told_apart
from labctl.safety import interruptible
from labctl.said_in_time import sayer
from labctl.wording import counted

if TYPE_CHECKING:
    from labctl.parties.server_host import ServerHost

# What a client can cause: the server goes on with others.
_OF_CLIENTS = (AbortedError, BudgetError, IdentityError, ProtocolError, VerificationError)
# How often the main thread looks whether it has to end, in s: far below the watchdog's limits.
_LOOK_S = 0.2


_BatchLimit = Annotated[
    int, typer.Option(min=1, max=MOST_QUERIES, help="Images that a client may ask for in a batch.")
]


def server(
    station: Annotated[Path, typer.Argument(help="Station file with [frame] and [server].")],
    identity: options.Identity,
    listen: Annotated[
        str, typer.Option("--listen", help="HOST:PORT to listen at; port 0 for a free one.")
    ] = "127.0.0.1:4750",
    model: options.Model = "noise-aware",
    mu: options.Mu = 8.91,
    gain: options.Gain = 1.0128,
    loss: link_options.LossTrust = Trust.UNTRUSTED,
    noise: link_options.NoiseTrust = Trust.UNTRUSTED,
    weights_bits_limit: options.OptionalWeightsBitsLimit = None,
    failure_probability: options.FailureProbability = 1e-10,
    false_alarm_probability: options.FalseAlarmProbability = 1e-6,
    accept_discrete_weights: options.AcceptDiscreteWeights = False,
    turn: Annotated[
        float,
        typer.Option(
            min=0.0, help="Seconds that a client keeps the light while others wait, 0 or more."
        ),
    ] = 60.0,
    batch_limit: _BatchLimit = BATCH_QUERIES,
    end_after: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of sessions after which to end, 1 or more (default: Ctrl-C ends)."
        ),
    ] = None,
    ledger: options.Ledger = Path("labctl-server-ledger"),
    runs: options.Runs = Path("labctl-server-runs"),
    json: options.Json = False,
) -> None:
    """Serve clients: send the network's weights as light, check what comes back, keep the books.

    Needs the extra `parties`. Clients are those whose certificates the authority of --identity
    issued; they have the light in turns. Constants of the hardware are those of the station file,
    with their uncertainties. Ctrl-C or SIGTERM ends: open sessions are aborted and emission is
    switched off.
    With --json: one JSON object on a line for each event.
    """
    from labctl.parties.channel import PartyChannel, Peer
    from labctl.parties.grpc_server import ChannelServer
    from labctl.parties.lease import Lease
    from labctl.parties.offer import Offer
    from labctl.parties.server_host import Caller, ServerHost
    from labctl.station import Station
    from labctl.station.equipment import require_roles, server_equipment_of

    network = load_network(model)
    require_not_told_apart(look_at(network, mu), accepted=accept_discrete_weights)
    require_runs_folder(runs, network.size_bytes)
    said = _Events(as_json=json)
    offer = Offer(
        network,
        Light(mu, FRESH_ORDER),
        gain,
        assumptions(loss, noise),
        VerificationSettings(
            failure_probability=failure_probability,
            false_alarm_probability=false_alarm_probability,
            weights_bits_limit=weights_bits_limit,
        ),
        batch_limit,
    )
    site = Station.read(station)
    require_roles(site, ("server",))
    end = _End(end_after)
    with interruptible() as check, site:
        host = ServerHost(
            offer,
            server_equipment_of(site),
            site.table.frame,
            Ledger(ledger, Party.SERVER),
            runs,
            masked(station.read_text(encoding="utf-8")),
            lease=Lease(turn_s=turn),
            on_step=lambda step: sayer.say(lambda: output.say_step(step)),
            on_batch=said.batch,
            on_end=end.count,
        )

        def handler(peer: Peer, channel: PartyChannel) -> None:
            said.begins(peer.name, peer.address)
            try:
                path = host.serve(Caller(peer.name, peer.fingerprint), channel)
                said.ends(peer.name, "closed", str(path))
            except LabctlError as error:
                said.ends(peer.name, "aborted", str(error))
                end.fail(error)
            finally:
                end.look()

        with closing(host), ChannelServer(listen, identity, handler) as channels:
            said.listens(channels.port)
            service.ready()
            _watch(end, said, host, check)
    sayer.finish()
    said.check()
    if end.failure is not None:
        raise end.failure


def _watch(end: _End, said: _Events, host: ServerHost, check: Callable[[], None]) -> None:
    """Look, until the end, whether what the sessions' threads cannot raise has happened."""
    while not end.is_reached(_LOOK_S):
        check()
        said.check()
        host.expire()
        end.look()
        service.alive()


class _End:
    """When the server ends by itself: after a number of sessions, or once its bench has failed."""

    def __init__(self, after: int | None) -> None:
        self._after, self._over = after, 0
        self._noted = threading.local()
        self._reached = threading.Event()
        self._lock = threading.Lock()
        self.failure: LabctlError | None = None

    def is_reached(self, timeout_s: float) -> bool:
        """Wait; return whether the end has come."""
        return self._reached.wait(timeout_s)

    def count(self) -> None:
        """Note a session that is over, in the thread that says so; `look` counts it there."""
        self._noted.over = getattr(self._noted, "over", 0) + 1

    def look(self) -> None:
        """Count what this thread noted, once it has said all of it; end if that is enough."""
        with self._lock:
            self._over += getattr(self._noted, "over", 0)
            self._noted.over = 0
            if self._after is not None and self._over >= self._after:
                self._reached.set()

    def fail(self, error: LabctlError) -> None:
        """End for an error, unless it is one that a client can cause."""
        if not isinstance(error, _OF_CLIENTS):
            self.failure = error
            self._reached.set()


class _Events:
    """Says what happens: a line for people, an object for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._lost: OSError | None = None

    def check(self) -> None:
        """Raise OSError once nobody can read any more what is said."""
        if self._lost is not None:
            raise self._lost

    def listens(self, port: int) -> None:
        """Say where clients are accepted."""
        self._say("listening", f"clients are accepted at port {port}, Ctrl-C ends", port=port)

    def begins(self, client: str, address: str) -> None:
        """Say that a session begins."""
        self._say("session", f"{client} ({address})", client=client, address=address)

    def batch(self, client: str, queries: int, report: VerificationReport) -> None:
        """Say what a batch came to."""
        bits = report.weights_bits_prior_free_upper
        self._say(
            "batch",
            f"{client}: {counted(queries, 'query', 'queries')}, "
            f"{'accepted' if report.accepted else 'REJECTED'}: {report.reason}; below "
            f"{output.number(bits)} bit per real weight",
            client=client,
            queries=queries,
            accepted=report.accepted,
            reason=report.reason,
            weights_bits_prior_free_upper=bits,
            failure_probability=report.failure_probability,
        )

    def ends(self, client: str, how: str, about: str) -> None:
        """Say how a session has ended."""
        self._say("end", f"{client}: {how}, {about}", client=client, how=how, about=about)

    def _say(self, event: str, text: str, **values: object) -> None:
        # By the sayer: a terminal that takes nothing must not hold a session, which has the light.
        sayer.say(lambda: self._write(event, text, values))

    def _write(self, event: str, text: str, values: Mapping[str, object]) -> None:
        try:
            if self._as_json:
                output.print_json({"event": event, **values}, flush=True)
            else:
                print(f"{event}: {text}", flush=True)
        except OSError as error:
            # Of the sayer's thread: the main one ends the server, the session is left in order.
            self._lost = error
