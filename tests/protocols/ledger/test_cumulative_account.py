"""The bound of an account whose light came on several terms: how bright, and what is trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from labctl.data.models import Network
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.leakage.cumulative import AssumedChannel, everything_bits
from labctl.protocols.ledger.collective_store import CollectiveStore, LightTerms
from labctl.protocols.ledger.cumulative_account import CumulativeAccount
from labctl.protocols.link import Exchange, LayerLight, ReturnedLight
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.session import Session
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.collective_noise import collective_noise
from labctl.protocols.verification.collective_record import collective_sums
from labctl.protocols.verification.doubts import UNKNOWN, Doubts, Source
from labctl.run.figures import cumulative_of
from labctl.studies.attacks.false_alarms import HONEST

ACCOUNT = f"alice/{'0' * 64}"
FAILURE = 0.4
UNTRUSTED = Assumptions(loss=Trust.UNTRUSTED, technical_noise=Trust.UNTRUSTED)
TRUSTED_NOISE = replace(UNTRUSTED, technical_noise=Trust.TRUSTED)
RANDOM = np.random.default_rng(6)
NETWORK = Network(
    tuple(RANDOM.standard_normal(shape).astype(np.float32) for shape in ((60, 80), (10, 60))),
    "random",
    {},
)
# What the client adds to each slot, times a factor of each query; X and P of a mode.
KICK = {shape: RANDOM.standard_normal((2, *shape)) for shape in ((60, 40), (10, 30))}


class Disturbed(ModeLink):
    """A client that adds the same to every weight, times `factors` of the queries in turn."""

    factors: Iterator[float]

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        exchange = super().exchange(light, coefficients)
        if light.layer == 0:
            self._factor = next(self.factors)
        kick: npt.NDArray[np.float64] = self._factor * KICK[light.quadratures[:, 0::2].shape]

        def disturbed() -> Iterator[ReturnedLight]:
            for returned in exchange.returned:
                added = returned.cosine * kick[0] + returned.sine * kick[1]
                yield replace(returned, measured=returned.measured + added.astype(np.float32))

        return Exchange(exchange.measured, disturbed(), exchange.arriving)


def session_of(settings: SessionSettings, factors: list[float]) -> Session:
    link = Disturbed(settings)
    link.factors = iter(factors)
    session = Session(NETWORK, settings, link)
    for _ in session.run(np.ones((len(factors), 80), np.float32), batch_images=1):
        pass
    return session


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., CumulativeAccount]:
    """Return the account of sessions on their terms."""

    def account(*sessions: tuple[Session, LightTerms]) -> CumulativeAccount:
        store = CollectiveStore(tmp_path, b"k" * 32)
        for session, terms in sessions:
            store.add(ACCOUNT, terms, session.record(), session.server.evidence)
        return CumulativeAccount(store.kept(ACCOUNT), FAILURE)

    return account


def terms_of(settings: SessionSettings, technical_noise: float = 0.0) -> LightTerms:
    return LightTerms(settings.light.mean_photons, 1, settings.assumptions, technical_noise)


def test_dim_queries_do_not_hide_what_a_bright_one_shows(
    keep: Callable[..., CumulativeAccount],
) -> None:
    """Noise of changing sign in dim queries, which half of them show, outweighs a bright one's."""
    bright = replace(HONEST, light=replace(HONEST.light, mean_photons=200.0), seed=1)
    dim = replace(HONEST, light=replace(HONEST.light, mean_photons=4.0), seed=2)
    kick = 2.0
    one = session_of(bright, [kick])
    many = session_of(dim, [1.5 * kick * (-1) ** query for query in range(50)])
    account = keep((one, terms_of(bright)), (many, terms_of(dim)))
    # Half of the light carries kick^2, the other half nothing on the mode of all of them.
    channel = AssumedChannel(1.0, 0.0, UNTRUSTED)
    truth = min(channel.bits(400.0, kick**2 / 2.0), channel.bits(200.0, 0.0, unseen=200.0))
    assert account.bits(400.0) >= 0.98 * truth
    # All of it taken for light of one strength, the estimate is far below.
    pooled = collective_sums(one.server.evidence, one.record().merged(many.record()))
    assert pooled is not None
    assert collective_noise(pooled, FAILURE).upper < 0.5 * kick**2 / 2.0


def test_noise_that_one_run_trusts_is_not_trusted_in_another(
    keep: Callable[..., CumulativeAccount],
) -> None:
    first = replace(HONEST, assumptions=UNTRUSTED, seed=3)
    second = replace(
        first,
        assumptions=TRUSTED_NOISE,
        channel=replace(first.channel, technical_noise=0.5),
        seed=4,
    )
    robbed, noisy = session_of(first, [0.05] * 30), session_of(second, [0.0] * 2)
    alone = keep((robbed, terms_of(first)))
    light, more = 30 * HONEST.light.mean_photons, 32 * HONEST.light.mean_photons
    together = keep((noisy, terms_of(second, 0.5)))
    assert len(together.kept) == 2
    assert together.bits(more) >= alone.bits(light) * 0.99
    assert together.bits(more) <= everything_bits(more)
    # As if the second run's trust held for the first as well.
    trusting = tuple(
        replace(each, terms=replace(each.terms, assumptions=TRUSTED_NOISE, technical_noise=0.5))
        for each in together.kept
    )
    assert CumulativeAccount(trusting, FAILURE).bits(more) < 0.9 * together.bits(more)


def test_more_looked_at_never_costs_more_than_light_that_was_kept(
    keep: Callable[..., CumulativeAccount],
) -> None:
    quiet = replace(HONEST, seed=5)
    before = keep((session_of(quiet, [0.0] * 10), terms_of(quiet)))
    light = 10 * quiet.light.mean_photons
    unseen = before.bits(light + 3.0)
    loud = replace(HONEST, light=replace(HONEST.light, mean_photons=3.0), seed=6)
    after = keep((session_of(loud, [30.0]), terms_of(loud)))
    assert after.bits(light + 3.0) <= unseen * 1.01


@pytest.mark.parametrize(("light", "noise"), [(0.01, 1e-6), (0.57, 1e-4), (57.0, 0.5), (5e4, 1e-6)])
def test_with_a_tenth_looked_at_the_bound_is_the_entropy_of_all_light(
    light: float, noise: float
) -> None:
    """So that an account need not search for it; with half looked at it is well below."""
    channel = AssumedChannel(1.0, 0.0, Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED))
    for share, same in ((0.1, True), (0.5, False)):
        total = light / share
        bits = channel.bits(light, noise, unseen=total - light)
        assert (bits == pytest.approx(everything_bits(total), abs=1e-9)) is (same or noise >= 0.5)


def test_what_a_bench_does_not_know_exactly_costs_bits(
    keep: Callable[..., CumulativeAccount],
) -> None:
    """Light, unit and transmittance at their bounds, as the bound of the run itself has them."""
    session = session_of(replace(HONEST, seed=5), [0.0] * 6)
    light = 6 * HONEST.light.mean_photons
    account = keep((session, terms_of(HONEST)))
    sources = tuple(Source(name, 0.02) for name in ("light", "unit"))
    doubtful = Doubts(light=sources[:1], unit=sources[1:], share=sources, client_noise=sources)
    (kept,) = account.kept
    doubted = replace(account, kept=(replace(kept, terms=replace(kept.terms, doubts=doubtful)),))
    reach = doubtful.light_factor(FAILURE / 10.0)
    assert doubted.light_factor == reach > 1.0
    channel = AssumedChannel(
        kept.sums.pooled.transmittance_lower(FAILURE / 4.0)
        * doubtful.transmittance_factor(FAILURE / 10.0),
        0.0,
        UNTRUSTED,
    )
    # Half for the noise, a tenth of it for its unit.
    noise = collective_noise(kept.sums, 0.45 * FAILURE).upper
    expected = channel.bits(light * reach, noise * doubtful.noise_factor(0.05 * FAILURE))
    assert doubted.bits(light) == pytest.approx(expected, rel=1e-9)
    assert doubted.bits(light) > 1.01 * account.bits(light)
    # Light that nobody looked at stands in an account as it was at most, and counts as that.
    more = everything_bits(light * reach + 5.0)
    assert doubted.bits(light) < doubted.bits(light + 5.0) <= more
    unseen = CumulativeAccount((), FAILURE)
    assert unseen.bits(5.0) == everything_bits(5.0)


DOUBTFUL = Doubts(
    light=(Source("readings", 0.01, 60.0), Source("loss", 0.03)),
    unit=(Source("efficiency", 0.02),),
    share=(Source("readings", 0.01, 60.0), Source("unit", 0.01)),
    client_noise=(Source("efficiency", 0.02), Source("link", 0.02)),
)


@pytest.mark.parametrize("failure", [0.5, 1e-10, 1e-20])
@pytest.mark.parametrize("loss", list(Trust))
def test_an_account_of_one_run_is_bounded_as_the_run_itself(
    failure: float, loss: Trust, tmp_path: Path
) -> None:
    """So that no run is charged less than the bound that it prints."""
    trusted, queries = Assumptions(loss, Trust.UNTRUSTED), 20
    settings = replace(
        HONEST,
        assumptions=trusted,
        verification=replace(HONEST.verification, failure_probability=failure),
        seed=11,
    )
    session = session_of(settings, [0.0] * queries)
    expected = replace(session.expectation(), doubts=DOUBTFUL)
    printed = cumulative_of(
        session.server_half.verifier, settings, session.verdict(expected), queries
    )
    store = CollectiveStore(tmp_path, b"k" * 32)
    terms = replace(
        terms_of(settings), doubts=DOUBTFUL, link_transmittance=expected.link_transmittance
    )
    store.add(ACCOUNT, terms, session.record(expected), session.server.evidence)
    account = CumulativeAccount(store.kept(ACCOUNT), failure)
    assert printed.collective_upper is not None
    bits = account.bits(queries * settings.light.mean_photons)
    assert bits == pytest.approx(printed.collective_upper, rel=1e-9)


def test_trusted_loss_is_the_calibrated_loss_and_no_more(
    keep: Callable[..., CumulativeAccount],
) -> None:
    """Of 6 dB found 3 dB were calibrated: the rest is the client's."""
    trusted = Assumptions(Trust.TRUSTED, Trust.UNTRUSTED)
    lossy = replace(HONEST, assumptions=trusted, channel=replace(HONEST.channel, loss_db=6.0))
    session = session_of(replace(lossy, seed=6), [0.0] * 6)
    light = 6 * HONEST.light.mean_photons
    account = keep((session, replace(terms_of(lossy), link_transmittance=0.5)))
    (kept,) = account.kept
    share = kept.sums.pooled.transmittance_lower(FAILURE / 2.0) / 0.5
    assert share == pytest.approx(0.5, abs=0.02)
    channel = AssumedChannel(share, 0.0, UNTRUSTED)
    noise = collective_noise(kept.sums, FAILURE / 2.0).upper / 0.5
    assert account.bits(light) == pytest.approx(channel.bits(light, noise), rel=1e-9)


def test_of_records_without_doubts_nothing_is_known() -> None:
    terms = terms_of(HONEST)
    doubtful = replace(terms, doubts=Doubts(light=(Source("a", 0.1, 7.0),)))
    assert LightTerms.of_json(doubtful.as_json()) == doubtful
    old = {**terms.as_json(), "client_transmittance": 1.0}
    del old["doubts"], old["link_transmittance"]
    assert LightTerms.of_json(old).doubts == UNKNOWN
    assert UNKNOWN.transmittance_factor(0.5) == UNKNOWN.share_factor(0.5) == 0.0
    assert doubtful.mixed(terms, 0.5).doubts == terms.mixed(doubtful, 0.5).doubts == doubtful.doubts
