"""A server on probation terms: worthless queries in between, judged like all others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sessions import ideal_session

from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.disguise import FRESH_ORDER, key_of_seed
from labctl.protocols.encoding import Floats
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.probation.run import Round, run_on_probation
from labctl.protocols.probation.schedule import Probation, Schedule
from labctl.protocols.probation.server import ProbationServer
from labctl.protocols.server import Server
from labctl.protocols.server.disguised import DisguisedServer
from labctl.protocols.session import Session
from labctl.protocols.settings import (
    SessionSettings,
    VerificationSettings,
)
from labctl.studies.attacks.heterodyne_resend import HeterodyneResend

SIZES = (30, 40, 10)
KEY = bytes(range(32))
SETTINGS = ideal_session(
    2.0, 1.5, seed=3, verification=VerificationSettings(false_alarm_probability=1e-6)
)
BRIGHT = replace(SETTINGS, light=replace(SETTINGS.light, mean_photons=1e7))


def network(seed: int) -> Network:
    draw = np.random.default_rng(seed)
    layers = [
        draw.standard_normal(shape).astype(np.float32)
        for shape in zip(SIZES[1:], SIZES[:-1], strict=True)
    ]
    return Network(tuple(layers), f"net {seed}", {})


def images(count: int) -> Floats:
    return np.random.default_rng(9).random((count, SIZES[0]), dtype=np.float32)


def server(seed: int, settings: SessionSettings) -> Server:
    return DisguisedServer(
        network(seed), settings.light.mean_photons, None, FRESH_ORDER, key=key_of_seed(seed)
    )


def on_probation(probation: Probation, settings: SessionSettings) -> ProbationServer:
    return ProbationServer(server(1, settings), server(2, settings), Schedule(probation, KEY))


def rounds(
    probation: Probation, settings: SessionSettings, count: int
) -> tuple[Session, list[Round]]:
    mixed = on_probation(probation, settings)
    session = Session(network(1), settings, ModeLink(settings), server=mixed)
    practice = probation.queries
    found = run_on_probation(session, mixed, images(count), practice_queries=practice)
    return session, list(found)


def test_every_image_is_served_in_order_by_the_network_itself() -> None:
    """Light so bright that the classes are those of the exact network."""
    _, found = rounds(Probation(5, 0.3), BRIGHT, 40)
    served = [part.batch for part in found if part.batch is not None]
    assert [batch.first_image for batch in served] == list(
        np.cumsum([0, *(len(batch.classes) for batch in served[:-1])])
    )
    values = images(40) @ network(1).layers[0].T
    exact = (np.maximum(values, 0.0) @ network(1).layers[1].T).argmax(axis=1)
    assert np.array_equal(np.concatenate([batch.classes for batch in served]), exact)
    queries = sum(len(part.inputs) for part in found)
    assert queries > 5 + 2 * 40


def test_practice_says_nothing_of_the_data() -> None:
    _, found = rounds(Probation(5, 1.0), SETTINGS, 4)
    assert [len(part.inputs) for part in found] == [5, 4]
    assert np.array_equal(found[0].inputs, np.ones((5, SIZES[0])))
    assert found[0].batch is None


def test_light_of_both_networks_is_judged_and_honest_clients_pass() -> None:
    session, found = rounds(Probation(20, 0.5), SETTINGS, 30)
    verdict = session.verdict(figures=False)
    assert verdict.accepted is True
    queries = sum(len(part.inputs) for part in found)
    modes = 40 * 15 + 10 * 20
    assert sum(part.samples for part in session.server.evidence) == queries * modes
    # The bounds are of what was served: worthless queries must not dilute it.
    assert verdict.samples == 30 * modes


def test_a_thief_is_caught_by_worthless_queries() -> None:
    """All of 60 queries before the first real one; 20 % of the modes read and resent."""
    mixed = on_probation(Probation(60, 1.0), SETTINGS)
    mounted = HeterodyneResend(0.2).mount(network(1), SETTINGS)
    session = Session(network(1), SETTINGS, mounted.link, server=mixed)
    first = next(run_on_probation(session, mixed, images(1), practice_queries=60))
    assert first.batch is None
    assert session.verdict(figures=False).accepted is False
    assert not any(part.samples for part in mixed.own_evidence)


def test_a_stand_in_of_another_shape_is_refused() -> None:
    other = Network((network(1).layers[0],), "one layer", {})
    with pytest.raises(SettingError, match="40 x 30, 10 x 40"):
        ProbationServer(Server(network(1), 2.0), Server(other, 2.0), Schedule(Probation(), KEY))


def test_a_batch_of_both_kinds_is_refused() -> None:
    mixed = on_probation(Probation(2, 1.0), SETTINGS)
    assert mixed.next_of_a_kind(10) == (2, False)
    with pytest.raises(SettingError, match="at most 2, of one kind"):
        list(mixed.sent(0, 3))


def test_sums_by_weight_are_of_the_networks_own_light_alone() -> None:
    """Worthless queries count in none of the sums that the bound rests on."""
    practised, _ = rounds(Probation(real_share=1.0, queries=3), SETTINGS, 6)
    mixed, found = rounds(Probation(real_share=0.4), SETTINGS, 6)
    for session in (practised, mixed):
        own = sum(part.samples for part in session.server.own_evidence)
        everything = sum(part.samples for part in session.server.evidence)
        report = session.verdict()
        assert report.collective is not None
        served = max(part.images for part in session.server.own_evidence)
        assert report.collective.queries == served
        assert own == session.record().samples
        assert (own < everything) == any(
            part.images for part in session.server.evidence[len(SIZES) - 1 :]
        )
    assert sum(part.batch is None for part in found) > 0
