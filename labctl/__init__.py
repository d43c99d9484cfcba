"""labctl: hardware-in-the-loop lab control for quantum-secure deep learning.

    import labctl

    with labctl.open_station("bench.toml") as bench:
        bench.laser.set_power_dbm(3.0)
        print(bench["meter/2"].power_dbm())

All that is here loads when it is first used: importing labctl itself loads next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from labctl.version import __version__

if TYPE_CHECKING:
    from labctl import errors, units
    from labctl.calibration.knowledge import Knowledge
    from labctl.data.mnist import LabelledImages
    from labctl.data.models import Network, load_network
    from labctl.data.run_file import Run
    from labctl.errors import (
        BenchHeldError,
        BudgetError,
        CalibrationError,
        ConnectionFailedError,
        DatasetError,
        IdentityError,
        InstrumentError,
        InstrumentReportedError,
        InstrumentTimeoutError,
        LabctlError,
        LimitError,
        ModelError,
        OtherInstrumentError,
        ProtocolError,
        RecordError,
        ReplyError,
        RunFileError,
        SettingError,
        SignalError,
        StationFileError,
        StoppedError,
        SynchronisationError,
        UnknownInstrumentError,
        UsageError,
        VerificationError,
    )
    from labctl.face.runs import calibrate, infer, leakage, open_run
    from labctl.face.stations import open_station, simulated_station
    from labctl.run.report import Report
    from labctl.run.setting import LeakageOfSetting
    from labctl.station import Station

__all__ = [
    "BenchHeldError",
    "BudgetError",
    "CalibrationError",
    "ConnectionFailedError",
    "DatasetError",
    "IdentityError",
    "InstrumentError",
    "InstrumentReportedError",
    "InstrumentTimeoutError",
    "Knowledge",
    "LabctlError",
    "LabelledImages",
    "LeakageOfSetting",
    "LimitError",
    "ModelError",
    "Network",
    "OtherInstrumentError",
    "ProtocolError",
    "RecordError",
    "ReplyError",
    "Report",
    "Run",
    "RunFileError",
    "SettingError",
    "SignalError",
    "Station",
    "StationFileError",
    "StoppedError",
    "SynchronisationError",
    "UnknownInstrumentError",
    "UsageError",
    "VerificationError",
    "__version__",
    "calibrate",
    "errors",
    "infer",
    "leakage",
    "load_network",
    "open_run",
    "open_station",
    "simulated_station",
    "units",
]

# Where each name is found; errors are all in one module.
_PLACES = {
    "Knowledge": "labctl.calibration.knowledge",
    "LabelledImages": "labctl.data.mnist",
    "LeakageOfSetting": "labctl.run.setting",
    "Network": "labctl.data.models",
    "Report": "labctl.run.report",
    "Run": "labctl.data.run_file",
    "Station": "labctl.station",
    "calibrate": "labctl.face.runs",
    "infer": "labctl.face.runs",
    "leakage": "labctl.face.runs",
    "load_network": "labctl.data.models",
    "open_run": "labctl.face.runs",
    "open_station": "labctl.face.stations",
    "simulated_station": "labctl.face.stations",
}
_MODULES = ("errors", "units")


def _loaded(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"labctl.{name}")
    if name not in __all__:
        from difflib import get_close_matches

        near = get_close_matches(name, __all__, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"module 'labctl' has no attribute {name!r}{hint}")
    value = getattr(import_module(_PLACES.get(name, "labctl.errors")), name)
    globals()[name] = value
    return value


if not TYPE_CHECKING:  # type checkers read the imports above, and so know a wrong name
    __getattr__ = _loaded


def __dir__() -> list[str]:
    return list(__all__)
