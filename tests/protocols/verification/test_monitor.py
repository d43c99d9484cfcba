"""The shot-noise monitor over a session, and what a report says of its checks."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace

import numpy as np
import pytest

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.encoding import Floats
from labctl.protocols.link import Exchange, LayerLight, Link, MonitoredLink, MonitorReading
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling, SessionSettings, VerificationSettings
from labctl.protocols.verification.verdict import VerificationReport
from labctl.studies.attacks.false_alarms import HONEST

NETWORK = Network((np.random.default_rng(1).normal(size=(10, 16)).astype(np.float32),), "n", {})
IMAGES = np.random.default_rng(2).random((12, 16), dtype=np.float32)


def verdict(settings: SessionSettings = HONEST, link: Link | None = None) -> VerificationReport:
    session = Session(NETWORK, settings, link or ModeLink(settings))
    for _ in session.run(IMAGES, batch_images=4):
        pass
    return session.verdict(figures=False)


def test_readings_have_the_scatter_of_their_samples() -> None:
    """2000 readings of 1000 samples: mean 1 within four errors, variance 2/999 within 13 %."""
    own = replace(HONEST.verification, monitor_samples=1000)
    link = ModeLink(replace(HONEST, verification=own))
    assert isinstance(link, MonitoredLink)
    found = [link.monitor() for _ in range(2000)]
    values = np.array([reading.blocked_variance for reading in found if reading is not None])
    assert len(values) == 2000
    assert values.mean() == pytest.approx(1.0, abs=4.0 * math.sqrt(2.0 / 999.0 / 2000.0))
    assert values.var() == pytest.approx(2.0 / 999.0, rel=0.13)


def test_pooled_readings_weigh_by_their_degrees_of_freedom() -> None:
    pooled = MonitorReading(1.0, 11).pooled(MonitorReading(4.0, 21))
    assert pooled == MonitorReading(3.0, 31)


@dataclass(frozen=True)
class TurnedDown:
    """A link whose local oscillator somebody lowers by a factor in power after calibration."""

    link: ModeLink
    factor: float
    monitored: list[MonitorReading]

    def calibrate(self) -> ReceiverCalibration:
        return self.link.calibrate()

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        return self.link.exchange(light, coefficients)

    def monitor(self) -> MonitorReading | None:
        honest = self.link.monitor()
        assert honest is not None
        self.monitored.append(honest)
        return replace(honest, blocked_variance=self.factor * honest.blocked_variance)


def test_a_session_watches_after_each_batch_and_finds_a_turned_local_oscillator() -> None:
    link = TurnedDown(ModeLink(HONEST), 0.9, [])
    report = verdict(link=link)
    assert len(link.monitored) == 3
    assert report.accepted is False
    assert "shot noise" in {check.name for check in report.failed}
    assert "shot noise during the session" in report.reason
    assert verdict(link=TurnedDown(ModeLink(HONEST), 1.0, [])).accepted is True


@dataclass(frozen=True)
class Unwatched:
    """A link that cannot block its receiver during a session."""

    link: ModeLink

    def calibrate(self) -> ReceiverCalibration:
        return self.link.calibrate()

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        return self.link.exchange(light, coefficients)


def test_a_session_without_monitor_does_not_pretend() -> None:
    none = replace(HONEST, verification=replace(HONEST.verification, monitor_samples=0))
    for report in (verdict(link=Unwatched(ModeLink(HONEST))), verdict(none)):
        (check,) = [check for check in report.checks if check.name == "shot noise"]
        assert check.passed is None
        assert report.accepted is True


def test_the_monitor_leaves_light_and_values_as_they_were() -> None:
    watched, unwatched = verdict(), verdict(link=Unwatched(ModeLink(HONEST)))
    assert watched.excess_noise == unwatched.excess_noise
    assert watched.transmittance == unwatched.transmittance


def test_reports_can_be_said_in_json() -> None:
    for link in (None, Unwatched(ModeLink(HONEST)), TurnedDown(ModeLink(HONEST), 0.0, [])):
        report = verdict(link=link)
        text = json.dumps([asdict(check) for check in report.checks], allow_nan=False)
        assert len(json.loads(text)) == len(report.checks) == 10


def test_thresholds_that_no_value_reaches_are_none() -> None:
    """Ten calibration samples at 1e-9: no slope is too high for honest use."""
    few = replace(HONEST.verification, calibration_samples=10, false_alarm_probability=1e-9)
    report = verdict(replace(HONEST, verification=few))
    checks = {check.name: check for check in report.checks}
    assert checks["high gain"].threshold is None
    assert checks["high gain"].passed is True
    json.dumps([asdict(check) for check in report.checks], allow_nan=False)


def test_light_that_is_not_read_is_not_watched() -> None:
    report = verdict(replace(HONEST, sampling=Sampling.MEASURED))
    assert report.accepted is None
    assert report.checks == ()


@pytest.mark.parametrize("samples", [-1, 1])
def test_monitor_samples_out_of_range_are_refused(samples: int) -> None:
    with pytest.raises(SettingError, match="monitor_samples"):
        VerificationSettings(monitor_samples=samples)
