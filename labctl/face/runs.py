"""Inference, calibration and leakage in one call each: what has a usual value need not be said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Literal, TypeVar

from labctl import checks
from labctl.calibration.calibrator import Calibrator
from labctl.calibration.catalogue import ROUTINES
from labctl.calibration.knowledge import Knowledge
from labctl.calibration.store import Store
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network, load_network
from labctl.data.run_file import Run, read_run
from labctl.data.tasks import part_to_classify
from labctl.errors import SettingError
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.settings import MEAN_PHOTONS, Channel, Light, Sampling, VerificationSettings
from labctl.run.inference import run_inference
from labctl.run.report import Report
from labctl.run.request import GAIN, Asked, BenchRun, Common, LedgerRequest, ModeRun, Stale
from labctl.run.setting import LeakageOfSetting, leakage_of_setting, shape_asked
from labctl.safety import interruptible
from labctl.station import Station
from labctl.station.equipment import equipment_of, require_roles
from labctl.visible import visible_logger

RUNS = "labctl-runs"
STORE = "labctl-calibration"

Trusted = Literal["trusted", "untrusted"]
_E = TypeVar("_E", bound=Enum)
_log = visible_logger(__name__)


def infer(
    images: int | LabelledImages = 100,
    *,
    model: str | Path | Network = "noise-aware",
    mean_photons: float = MEAN_PHOTONS,
    gain: float = GAIN,
    station: Station | str | Path | None = None,
    data: str | Path | None = None,
    loss: Trusted = "untrusted",
    noise: Trusted = "untrusted",
    sample: Literal["all", "measured"] = "all",
    loss_db: float | None = None,
    technical_noise: float | None = None,
    efficiency: float | None = None,
    electronic_noise: float | None = None,
    seed: int = 0,
    weights_bits_limit: float | None = None,
    failure_probability: float = 1e-10,
    false_alarm_probability: float = 1e-6,
    ledger: str | Path | None = None,
    client: str | None = None,
    client_key: str | Path | None = None,
    budget_bits: float | None = None,
    operator_keys: str | Path | None = None,
    calibrations: str | Path = STORE,
    stale: Literal["calibrate", "refuse", "accept"] = "calibrate",
    effort: float = 1.0,
    runs: str | Path = RUNS,
    accept_discrete_weights: bool = False,
    on_step: Callable[[str], None] | None = None,
) -> Report:
    """Classify images by the quantum-secure protocol and verify the returned light.

    With a `station` (a file, or one that is not open) over its instruments, which are opened and
    left safe; without one at mode level.

    images: how many of `data` (a folder, a task's name, or None for MNIST), or your own images.
    model: a shipped network's name, a file, or a network. mean_photons: per mode; gain: G of the
    client's amplifier, above 1. loss, noise: what the bounds may trust; the default is the worst
    case. sample: draw all returned modes, or the measured values alone, which verifies nothing.
    loss_db (of the round trip), technical_noise (SNU), efficiency and electronic_noise (SNU) of
    both receivers describe a mode-level link, by default an ideal one; a station's are measured.
    weights_bits_limit: reject above this bound, in bit per real weight. failure_probability: that a
    stated bound does not hold; false_alarm_probability: that the verdict rejects an honest session;
    both between 0 and 1. ledger: folder to book the
    run in, for `client`, within `budget_bits` per real weight. client_key: file of the private key
    that the client's name is bound to. operator_keys: folder of the key that raises a budget.
    calibrations: folder of records;
    stale: what to do about those that do not apply; effort: of routines that run for it. runs:
    folder of run files. The other protections and hardware errors are options of `labctl infer`.

    Raises SettingError, ModelError, DatasetError, StationFileError, BudgetError, IdentityError,
    InstrumentError.
    """
    if station is not None:
        _refuse_given(
            loss_db=loss_db,
            technical_noise=technical_noise,
            efficiency=efficiency,
            electronic_noise=electronic_noise,
        )
    both: Common = {
        "network": _network(model),
        "images": _images(images, data),
        "runs": Path(runs),
        "light": Light(mean_photons),
        "assumptions": _assumptions(loss, noise),
        "sampling": _choice("sample", sample, Sampling),
        "verification": VerificationSettings(
            failure_probability=failure_probability,
            false_alarm_probability=false_alarm_probability,
            weights_bits_limit=weights_bits_limit,
        ),
        "ledger": _ledger(ledger, client, budget_bits, client_key, operator_keys),
        "accept_discrete_weights": accept_discrete_weights,
        "seed": seed,
    }
    about_stale = _choice("stale", stale, Stale)
    asked: Asked
    if station is None:
        homodyne = Homodyne(1.0 if efficiency is None else efficiency, electronic_noise or 0.0)
        asked = ModeRun(
            **both,
            channel=Channel(loss_db or 0.0, technical_noise or 0.0),
            receiver=CloneReceiver(gain, 1.0, homodyne),
            verifier=homodyne,
        )
    else:
        asked = BenchRun(
            **both,
            station=_closed(station),
            calibrations=Path(calibrations),
            gain=gain,
            stale=about_stale,
            effort=effort,
        )
    report = run_inference(asked, on_step=on_step or _log.info)
    _log_end(report)
    return report


def calibrate(
    station: Station | str | Path,
    routines: Sequence[str] = (),
    *,
    stale: bool = True,
    store: str | Path = STORE,
    effort: float = 1.0,
    seed: int = 0,
    on_step: Callable[[str], None] | None = None,
) -> Knowledge:
    """Measure what is not known of a station's hardware, and return all that is known then.

    station: a file, which is opened and left safe, or an open station, which stays open. routines:
    by name, with what they need; all unless given. stale: only those without an applicable record.
    store: folder of records. effort: how many readings to take, 1 is a full calibration.

    Raises StationFileError if the file has no roles, CalibrationError when a routine cannot trust
    what it sees, InstrumentError. Records of routines that ended are kept in any case.
    """
    if not isinstance(station, Station):
        opened = Station.read(station)
        require_roles(opened)
        with interruptible(), opened:
            return calibrate(
                opened,
                routines,
                stale=stale,
                store=store,
                effort=effort,
                seed=seed,
                on_step=on_step,
            )
    say = on_step or _log.info
    calibrator = Calibrator(
        station,
        equipment_of(station),
        Store(Path(store)),
        ROUTINES,
        effort=effort,
        seed=seed,
        on_step=say,
    )
    names = tuple(routines) or calibrator.names
    for record in calibrator.stale_steps(names) if stale else calibrator.steps(names):
        say(f"{record.routine}: record {record.id}")
    return calibrator.knowledge()


def leakage(
    mean_photons: float = MEAN_PHOTONS,
    gain: float = GAIN,
    *,
    model: str | Path | Network | None = "noise-aware",
    modes: int | None = None,
    rows: int | None = None,
    queries: int = 1,
    loss_db: float = 0.0,
    technical_noise: float = 0.0,
    loss: Trusted = "untrusted",
    noise: Trusted = "untrusted",
    failure_probability: float = 1e-10,
) -> LeakageOfSetting:
    """Return what a setting leaks: `one` query, and all `queries` of the same weights `together`.

    mean_photons: per mode; gain: G of the client's amplifier, above 1. model: whose own bound to
    give too, which sets the shape; None for a layer of `rows` by `modes`, 784 by 392 unless given,
    which a model leaves out. loss_db: of the round
    trip; technical_noise in SNU; loss, noise: whether the bounds may trust them. For weights of few
    levels (`distribution.discrete`) no figure for Gaussian weights holds.

    Raises SettingError, ModelError.

    >>> round(leakage(0.57, 1.3, model=None).one.weights_bits_prior_free, 3)
    0.124
    """
    return leakage_of_setting(
        shape_asked(None if model is None else lambda: _network(model), modes, rows),
        mean_photons=mean_photons,
        gain=gain,
        loss_db=loss_db,
        technical_noise=technical_noise,
        assumptions=_assumptions(loss, noise),
        queries=queries,
        failure_probability=failure_probability,
    )


def open_run(path: str | Path) -> Run:
    """Return a run file's settings and results; light and measured values are read on request.

    Raises RunFileError.
    """
    return read_run(Path(path))


def _refuse_given(**of_a_mode_link: float | None) -> None:
    """Refuse what a station's light decides."""
    for name, value in of_a_mode_link.items():
        if value is not None:
            raise SettingError(name, value, "left out with a station, whose light decides")


def _ledger(
    folder: str | Path | None,
    client: str | None,
    budget_bits: float | None,
    client_key: str | Path | None,
    operator_keys: str | Path | None,
) -> LedgerRequest | None:
    """Return what to book where; refuses one of ledger and client without the other."""
    if folder is None or client is None:
        for name, value, other in (("ledger", folder, client), ("client", client, folder)):
            if value is None and other is not None:
                raise SettingError(name, None, "given with a ledger: accounts are per client")
        of_a_ledger = {
            "budget_bits": budget_bits,
            "client_key": client_key,
            "operator_keys": operator_keys,
        }
        for name, given in of_a_ledger.items():
            if given is not None:
                raise SettingError(name, given, "given with a ledger")
        return None
    return LedgerRequest(
        Path(folder),
        client,
        budget_bits,
        client_key=None if client_key is None else Path(client_key),
        operator_keys=None if operator_keys is None else Path(operator_keys),
    )


def _log_end(report: Report) -> None:
    verdict = {True: "accepted", False: "rejected", None: "not verified"}
    _log.info(
        "%d images over the %s link: accuracy %.4f, %s, run files %s and %s",
        report.images,
        report.link,
        report.accuracy,
        verdict[report.verification.accepted],
        report.run_files.server,
        report.run_files.client,
    )


def _network(model: str | Path | Network) -> Network:
    return model if isinstance(model, Network) else load_network(model)


def _images(images: int | LabelledImages, data: str | Path | None) -> LabelledImages:
    if isinstance(images, LabelledImages):
        if data is not None:
            raise SettingError("data", str(data), "left out where images are given themselves")
        return images
    available = part_to_classify(data)
    checks.whole("images", images, 1, len(available.labels))
    return LabelledImages(available.images[:images], available.labels[:images])


def _closed(station: Station | str | Path) -> Path:
    """Return a station's file; the run opens its instruments itself."""
    if not isinstance(station, Station):
        return Path(station)
    if station.is_open:
        raise SettingError("station", station.table.name, "a file, or a station that is not open")
    return station.path


def _assumptions(loss: str, noise: str) -> Assumptions:
    return Assumptions(
        loss=_choice("loss", loss, Trust), technical_noise=_choice("noise", noise, Trust)
    )


def _choice(name: str, value: str, among: type[_E]) -> _E:
    """Return the member of an enumeration; raises SettingError with those there are."""
    try:
        return among(value)
    except ValueError as error:
        raise SettingError(
            name, value, "one of " + ", ".join(str(e.value) for e in among)
        ) from error
