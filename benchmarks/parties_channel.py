"""The channel between two parties on loopback: to connect, to answer, and beside a session.

    python benchmarks/parties_channel.py [--images 2000] [--batch 512] [--rounds 7]

Both parties are threads of this process and speak through real TLS. The session is the mode-level
one: the same machines, link and images once with messages handed over in process and once through
the channel, in turn, round by round. Medians and the median of the ratios are printed, of time and
of this process' processor time: where other programs run, two threads get more of a processor than
one, and the second is the one to go by. A channel's share is smaller on a bench, whose light takes
its time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from labctl.data.mnist import load_test_images
from labctl.data.models import load_network
from labctl.parties import authority as authorities
from labctl.parties.authority import Authority
from labctl.parties.channel import PartyChannel, Peer
from labctl.parties.grpc_client import connect
from labctl.parties.grpc_server import ChannelServer
from labctl.parties.limits import ServerLimits
from labctl.party import Party
from labctl.protocols.client.machine import ClientMachine
from labctl.protocols.disguise import FRESH_ORDER
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.link import LayerLight
from labctl.protocols.messages import Armed, Done, LayerOpen, Message, Taken
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.server.disguised import honest_server
from labctl.protocols.server.machine import ServerMachine
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.protocols.states import PartyState

SETTINGS = SessionSettings(
    light=Light(disguise=FRESH_ORDER),
    channel=Channel(),
    receiver=CloneReceiver(1.3, 1.0, IDEAL_HOMODYNE),
    verifier=IDEAL_HOMODYNE,
    assumptions=Assumptions(loss=Trust.UNTRUSTED, technical_noise=Trust.UNTRUSTED),
    sampling=Sampling.MEASURED,
    seed=3,
)
NETWORK = load_network("reference")


class Session:
    """Both machines and the link of one session; what carries the messages is another's matter."""

    def __init__(self) -> None:
        self.server = ServerMachine(honest_server(NETWORK, SETTINGS), SETTINGS, in_one=True)
        self.client = ClientMachine()
        self.link = ModeLink(SETTINGS)
        self.armed = threading.Semaphore(0)

    def light(self) -> Taken:
        """Carry the light of the open frames, and return what the client says of it."""
        light, setting = self.server.light, self.client.setting
        carried = (
            self.link.exchange(light, setting)
            if isinstance(light, LayerLight)
            else self.link.exchange_reordered(light, setting)
        )
        self.client.arrived(carried.arriving)
        for returned in carried.returned:
            self.server.returned(returned)
        return self.client.measured(carried.measured)

    def in_process(self, batches: list[Floats]) -> None:
        """Hand every message over as it is."""
        self.client.receive(_(self.server.receive(self.client.hello())))
        for images in batches:
            message = self.server.receive(self.client.begin(images))
            while isinstance(message, LayerOpen):
                self.server.receive(_(self.client.receive(message)))
                message = self.server.receive(self.light())
            self.client.receive(_(message))
            self.client.answers()
        self.server.receive(self.client.close())

    def serve(self, peer: Peer, channel: PartyChannel) -> None:
        """The server's side, behind the channel."""
        channel.bind(self.server)
        while self.server.state is not PartyState.CLOSED:
            message = channel.receive()
            answer = self.server.receive(message)
            if isinstance(message, Armed):
                self.armed.release()
            if answer is not None:
                channel.send(answer)

    def ask(self, channel: PartyChannel, batches: list[Floats]) -> None:
        """The client's side, behind the channel."""
        client = self.client
        channel.bind(client)
        channel.send(client.hello())
        client.receive(channel.receive())
        for images in batches:
            channel.send(client.begin(images))
            while not isinstance(message := channel.receive(), Done):
                channel.send(_(client.receive(message)))
                # Light is no message: here it goes when the server may send it.
                self.armed.acquire()
                channel.send(self.light())
            client.receive(message)
            client.answers()
        channel.send(client.close())
        channel.close()


def _(message: Message | None) -> Message:
    assert message is not None
    return message


def folders(root: Path) -> tuple[Path, Path]:
    """Return the folders of a server and a client that know each other."""
    issuer = Authority.make(root / "authority", "authority")
    for role, hosts in ((Party.SERVER, ("localhost",)), (Party.CLIENT, ())):
        request = authorities.request(root / str(role), role, str(role), hosts)
        issuer.hand_over(issuer.issue(request), root / str(role))
    return root / "server", root / "client"


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """Return how long something takes, and of that the processor's time for this process."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - used


def sessions(server: Path, client: Path, batches: list[Floats], rounds: int) -> None:
    """Print how long sessions take in process and through the channel."""
    current: list[Session] = []
    # No limit of messages, which would be measured instead of the channel.
    limits = ServerLimits(messages_per_s=1e6)
    inside, through = [], []

    def serve(peer: Peer, channel: PartyChannel) -> None:
        current[-1].serve(peer, channel)

    with ChannelServer("127.0.0.1:0", server, serve, limits=limits) as serving:
        for number in range(rounds + 1):
            session, alone = Session(), Session()
            current.append(session)
            # Each in turn first: what was computed last is still at hand for the next.
            if number % 2:
                inside.append(seconds(partial(alone.in_process, batches)))
            with connect(f"localhost:{serving.port}", client) as channel:
                through.append(seconds(partial(session.ask, channel, batches)))
            if not number % 2:
                inside.append(seconds(partial(alone.in_process, batches)))
    # The first round of each pays for what is loaded once.
    inside, through = inside[1:], through[1:]
    count = sum(map(len, batches))
    print(f"{count} images in {len(batches)} batches:")
    for kind, name in enumerate(("time", "processor time")):
        near, far = ([each[kind] for each in every] for every in (inside, through))
        ratio = statistics.median(two / one for one, two in zip(near, far, strict=True))
        print(
            f"  {name}: in process {statistics.median(near):.3f} s, through the channel "
            f"{statistics.median(far):.3f} s, ratio {ratio:.3f}"
        )


def connections(server: Path, client: Path, rounds: int) -> None:
    """Print how long it takes to connect, and from a message to its answer."""
    connecting, answering = [], []

    def answer(peer: Peer, channel: PartyChannel) -> None:
        machine = ServerMachine(honest_server(NETWORK, SETTINGS), SETTINGS)
        while machine.state is not PartyState.CLOSED:
            found = machine.receive(channel.receive())
            if found is not None:
                channel.send(found)
            while machine.state is PartyState.ALIGNING:
                channel.send(machine.aligned())

    limits = ServerLimits(messages_per_s=1e6)
    with ChannelServer("127.0.0.1:0", server, answer, limits=limits) as serving:
        for _round in range(rounds + 1):
            started = time.perf_counter()
            with connect(f"localhost:{serving.port}", client) as channel:
                connecting.append(time.perf_counter() - started)
                machine = ClientMachine()
                channel.send(machine.hello())
                machine.receive(channel.receive())
                for _again in range(100):
                    started = time.perf_counter()
                    channel.send(machine.ready())
                    machine.receive(channel.receive())
                    answering.append(time.perf_counter() - started)
                channel.send(machine.close())
                channel.close()
    print(
        f"connect {1e3 * statistics.median(connecting[1:]):.1f} ms, "
        f"message and answer {1e3 * statistics.median(answering[100:]):.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    images = load_test_images().images[: chosen.images]
    batches = [
        images[first : first + chosen.batch] for first in range(0, len(images), chosen.batch)
    ]
    with tempfile.TemporaryDirectory() as root:
        server, client = folders(Path(root))
        connections(server, client, chosen.rounds)
        sessions(server, client, batches, chosen.rounds)


if __name__ == "__main__":
    main()
