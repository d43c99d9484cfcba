"""Everything that is open while a run lasts: station, calibration, link and session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labctl.calibration.knowledge import NOTHING, Knowledge
from labctl.data.mnist import LabelledImages
from labctl.data.run_writer import RunFileWriter
from labctl.errors import SettingError
from labctl.protocols.carried import carried
from labctl.protocols.disguise import key_of_seed
from labctl.protocols.encoding import Floats
from labctl.protocols.hiding.collection import Collection
from labctl.protocols.hiding.decoys import Decoys, decoy_key_of_seed
from labctl.protocols.hiding.hiding import (
    OPEN,
)
from labctl.protocols.hiding.public_return import PublicReturn
from labctl.protocols.hiding.turns import check_turns
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.parameters import SessionParameters, session_parameters
from labctl.protocols.probation.run import QueryKind
from labctl.protocols.probation.schedule import Schedule
from labctl.protocols.probation.server import ProbationServer
from labctl.protocols.server import Server
from labctl.protocols.server.disguised import honest_server
from labctl.protocols.session import Session
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.client_guard import ClientGuard, PowerLimit, PowerMonitor
from labctl.protocols.verification.doubts import EXACT, Doubts
from labctl.protocols.verification.verdict import Expectation
from labctl.run.account_runs import of_run, run_number, simulated_run
from labctl.run.request import Asked, BenchRun, ModeRun, Stale
from labctl.station import Station
from labctl.station.equipment import Equipment
from labctl.station.file import ServerConstants

if TYPE_CHECKING:
    from labctl.protocols.bench_link import BenchLink

# Enough to analyse again what a bench has done; raw arrays of all images would fill the disk.
RAW_IMAGES = 2
_STAND_IN_PURPOSE = b"stand-in network"


@dataclass
class Raw:
    """Where the bench link's raw arrays go: the first images' light, into the run file."""

    writer: RunFileWriter | None = None
    taken: dict[str, int] = field(default_factory=dict)

    def __call__(self, name: str, values: Floats) -> None:
        """Keep an array of the bench, of the first `RAW_IMAGES` of its name."""
        count = self.taken.get(name, 0)
        if self.writer is not None and count < RAW_IMAGES:
            self.writer.append_raw("bench", name, values[None])
            self.taken[name] = count + 1


@dataclass(frozen=True)
class OpenRun:
    """What is open while a request runs."""

    settings: SessionSettings
    session: Session
    station: Station | None
    raw: Raw
    knowledge: Knowledge | None = None
    constants: ServerConstants | None = None
    link: BenchLink | None = None
    tally: dict[QueryKind, int] = field(default_factory=dict)
    collection: Collection | None = None

    def parameters(self) -> SessionParameters | None:
        """Return what a bench session was run at; None at mode level, which is exact."""
        if self.link is None or self.link.level is None or self.knowledge is None:
            return None
        estimate = self.session.estimate()
        return session_parameters(
            self.link.level, self.settings.receiver, estimate, self.knowledge.quantities
        )

    def expectation(self) -> Expectation:
        """Return what honest use shows; on a bench, with the uncertainty of its constants."""
        honest = self.session.expectation()
        if self.constants is None:
            return honest
        from labctl.protocols.bench_doubts import bench_expectation

        return bench_expectation(honest, self._doubts(), self.knowledge or NOTHING, self.constants)

    def _doubts(self) -> Doubts:
        """Return what a bench does not know exactly; nothing before its light and unit are set."""
        if self.link is None or self.link.level is None:
            return EXACT
        assert self.constants is not None
        from labctl.protocols.bench_doubts import bench_doubts, light_doubts

        calibration, known = self.session.calibrate(), self.knowledge or NOTHING
        if calibration is None:
            return light_doubts(self.link.level, known, self.constants)
        return bench_doubts(self.link.level, calibration, known, self.constants)

    def signal_to_noise(self) -> float:
        """Return the smallest F of all layers."""
        shapes = self.session.server.shapes
        return min(self.settings.signal_to_noise_of(shape.modes) for shape in shapes)

    def phase_rad2(self) -> float | None:
        """Return the largest phase variance of all layers, None without the client's own laser.

        Raises SettingError for linewidths that the rows do not allow.
        """
        if self.settings.oscillator is None:
            return None
        shapes = self.session.server.shapes
        return max(self.settings.phase_rad2_of(shape.modes) for shape in shapes)


@contextmanager
def opened(
    request: Asked, on_step: Callable[[str], None], on_station: Callable[[Station], None]
) -> Iterator[OpenRun]:
    """Open what the request needs and close it after; a bench is calibrated as the request says.

    `on_step` is called with each step's name, `on_station` gets the open station.
    """
    if isinstance(request, ModeRun):
        collection = collection_of(request, request.settings)
        settings = of_run(request.settings, run_number(request))
        session = Session(
            request.network,
            settings,
            ModeLink(settings),
            server=_server_of(request, settings),
            guard=_guard_of(settings),
            collection=collection,
        )
        run = OpenRun(settings, session, None, Raw(), collection=collection)
        run.phase_rad2()  # refused before anything is reserved
        yield run
        return
    from labctl.station.equipment import equipment_of, require_roles

    station = Station.read(request.station)
    # What cannot be run is refused before anything is switched on.
    require_roles(station)
    check_turns(request.hiding, station.table.frame.turns)
    request.settings(station.table.server.constants, station.table.client.receiver_constants)
    number = run_number(request)
    with simulated_run(number), station:
        on_station(station)
        from labctl.protocols.bench_doubts import lo_excess_noise
        from labctl.protocols.bench_link import BenchLink

        nominal = equipment_of(station)
        knowledge = _calibrated(request, station, nominal, on_step)
        equipment = knowledge.applied(nominal)
        server, client = equipment.server.constants, equipment.client.constants
        agreed = request.settings(server, client)
        settings = of_run(agreed, number)
        raw = Raw()
        link = BenchLink(
            equipment,
            settings,
            lo_excess_noise=lo_excess_noise(knowledge),
            on_raw=raw,
            on_step=on_step,
        )
        collection = collection_of(request, agreed)
        session = Session(
            request.network,
            settings,
            link,
            server=_server_of(request, settings),
            collection=collection,
        )
        link.prepare(list(session.server.templates))
        yield OpenRun(
            settings, session, station, raw, knowledge, server, link, collection=collection
        )


def collection_of(request: Asked, settings: SessionSettings) -> Collection | None:
    """Return what the client collects where it hides its input, None where it does not.

    A simulated client's key of decoys follows from the seed, so that runs repeat. It is the same
    in all runs of an account: the same image has to be sent again with the very same decoys.
    """
    if request.hiding == OPEN:
        return None
    if request.pictures is None:
        raise SettingError("pictures", None, "pictures to take decoys or a public subspace from")
    sent = carried(request.network)
    fed = sent.inputs.taken(request.pictures.images)
    if request.hiding.decoys:
        key = decoy_key_of_seed(settings.seed)
        pictures = LabelledImages(fed, request.pictures.labels)
        return Decoys(pictures, request.hiding.decoys, key)
    return PublicReturn(
        fed,
        sent.network.sizes,
        settings.channel.block_modes,
        request.hiding,
        doubled=settings.light.disguise.signs,
    )


def _server_of(request: Asked, settings: SessionSettings) -> Server:
    """Return the server: the network's own, or one that mixes worthless queries in."""
    own = honest_server(request.network, settings)
    wanted = request.probation
    if wanted is None:
        return own
    # As secret as the seed, like all orders of simulated runs.
    key = key_of_seed(settings.seed)
    stand_in = honest_server(wanted.stand_in, settings, key=_STAND_IN_PURPOSE + key)
    return ProbationServer(own, stand_in, Schedule(wanted.probation, key))


def _guard_of(settings: SessionSettings) -> ClientGuard:
    """Return the client's power monitor, which refuses light brighter than was agreed."""
    arriving = settings.light.mean_photons * settings.leg_transmittance
    return ClientGuard(PowerLimit(arriving), PowerMonitor(), seed=settings.seed)


def _calibrated(
    request: BenchRun, station: Station, equipment: Equipment, on_step: Callable[[str], None]
) -> Knowledge:
    """Return what is known of the station; measures what is stale if the request says so."""
    from labctl.calibration.calibrator import Calibrator
    from labctl.calibration.catalogue import ROUTINES
    from labctl.calibration.store import Store

    calibrator = Calibrator(
        station,
        equipment,
        Store(request.calibrations),
        ROUTINES,
        effort=request.effort,
        seed=request.seed,
        on_step=on_step,
    )
    if request.stale is Stale.CALIBRATE:
        for record in calibrator.stale_steps():
            on_step(f"{record.routine}: record {record.id}")
    return calibrator.demand(anyway=request.stale is Stale.ACCEPT)
