"""All countermeasures at one setting: what each does to the figure that it is about, measured.

Every effect is one number without and one with the countermeasure. Small samples make this quick;
docs/countermeasures.md has the same with large ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import DatasetError, SettingError
from labctl.protocols.blocks import BlockQuestion
from labctl.protocols.disguise import Disguise
from labctl.protocols.encoding import modes_of, unit_rms
from labctl.protocols.labels.reading import Detection, Reading
from labctl.protocols.mismatch import CloneMismatch
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.rotation import IDEAL_ROTATION
from labctl.protocols.server import Server
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.studies.attacks.label_reading import arriving
from labctl.studies.countermeasures.blocks_and_labels import block_effects
from labctl.studies.countermeasures.decoys import DecoyHiding, HiddenReading, weights_bits
from labctl.studies.countermeasures.mismatched_rows import read_mismatched_rows
from labctl.studies.countermeasures.phases import kick_of, phase_sensitive_kick, read_with_phases
from labctl.studies.countermeasures.quota import queries_for_correlation
from labctl.studies.countermeasures.realignment import Repeats, realign, repeat_input
from labctl.studies.countermeasures.splitting import split_option

# The closed form, which is no bound on a dishonest client.
HONEST_BITS = "bit per weight (honest)"
# Half decades.
REPEATS = (1, 3, 10, 30, 100, 300, 1000)
# So few that expectation maximisation takes seconds: it is shown that it can be done.
_FEW_NEURONS = (16, 8)
_FEW_QUERIES = 300
# One example of each option, as the page has it.
_SENDS = 10
_BLOCKS = 14
_DECOYS = 1
# Enough to be read at small gains with much light, and a dither as large.
_MISMATCH = CloneMismatch(-0.005)
_MISMATCH_DIMENSIONS = 24


@dataclass(frozen=True)
class Effect:
    """One countermeasure and one figure, without and with it; `remark` says what remains."""

    countermeasure: str
    figure: str
    without: float
    with_it: float
    remark: str


@dataclass(frozen=True, eq=False)
class Survey:
    """What is asked: a network at some settings, images to classify and to read, and templates.

    `pool`: what decoys are drawn from. No image is in two of the three: a decoy that the server has
    among its templates would give itself away. Link and rotation are taken as lossless. Raises
    DatasetError where one of the three is empty.
    """

    network: Network
    settings: SessionSettings
    images: LabelledImages
    templates: LabelledImages
    pool: LabelledImages

    def __post_init__(self) -> None:
        if not all(len(part.labels) for part in (self.images, self.templates, self.pool)):
            raise DatasetError("images, templates or decoys: none, must be 1 or more of each")
        if self.settings.channel.loss_db != 0.0 or not self.settings.channel.rotation.exact:
            raise SettingError(
                "loss_db and rotation", self.settings.channel.loss_db, "no loss, no errors"
            )

    @property
    def modes(self) -> int:
        """Modes of a row of the first layer."""
        return modes_of(self.network.sizes[0])

    @property
    def rows(self) -> int:
        """Rows that carry the input."""
        return self.network.sizes[1]

    def effects(self) -> Iterator[Effect]:
        """Yield each effect as it is measured."""
        yield from self._disguises()
        yield from self._splitting()
        yield from self._blocks()
        yield from self._quota()
        yield from self._phases()
        yield from self._mismatch()
        yield from self._decoys()

    def repeats(self) -> list[Repeats]:
        """Measure what repeats of the first image tell of the first layer's values for it."""
        weights = unit_rms(self.network.layers[0]).astype(np.float64)
        values = weights @ self.images.images[0]
        values = (values - values.mean()) / max(float(values.std()), 1e-30)
        return repeat_input(values, self.settings.signal_to_noise, REPEATS, self.settings.seed)

    def accuracy(self, disguise: Disguise) -> float:
        """Return the share of the images that a session in disguise classifies correctly."""
        settings = replace(
            self.settings,
            light=replace(self.settings.light, disguise=disguise),
            sampling=Sampling.MEASURED,
        )
        session = Session(self.network, settings, ModeLink(settings))
        classes = np.concatenate([batch.classes for batch in session.run(self.images.images)])
        return float(np.mean(classes == self.images.labels))

    def _disguises(self) -> Iterator[Effect]:
        last = self.repeats()[-1]
        permute, both = Disguise(permute=True), Disguise(permute=True, signs=True)
        yield Effect(
            "permutation",
            f"correlation with one input's values, {last.queries} repeats",
            last.plain,
            last.sorted,
            "aligned by sorting: no better than one query",
        )
        yield Effect(
            "permutation and signs",
            f"the same with their magnitudes, {last.queries} repeats",
            last.plain,
            last.magnitudes,
            "",
        )
        neurons, inputs = _FEW_NEURONS
        weights = np.random.default_rng(self.settings.seed).standard_normal(_FEW_NEURONS)
        for name, disguise in (("permutation", permute), ("permutation and signs", both)):
            with_it, without = (
                realign(
                    weights,
                    self.settings.signal_to_noise,
                    _FEW_QUERIES,
                    one,
                    self.settings.seed,
                    start=weights,
                )
                for one in (disguise, Disguise())
            )
            yield Effect(
                name,
                f"correlation, {neurons} neurons of {inputs} inputs, {_FEW_QUERIES} queries",
                without.correlation,
                with_it.correlation,
                f"chance {with_it.chance:.2f}; more queries undo it",
            )
        plain = self.accuracy(Disguise())
        for name, disguise in (("permutation", permute), ("permutation and signs", both)):
            figure = f"accuracy, {len(self.images.labels)} images"
            yield Effect(name, figure, plain, self.accuracy(disguise), "")

    def _splitting(self) -> Iterator[Effect]:
        one, many = (
            split_option(
                sends,
                mean_photons=self.settings.light.mean_photons,
                receiver=self.settings.receiver,
                modes=self.modes,
                rows=self.rows,
                transmittance=1.0,
                technical_noise=0.0,
                assumptions=self.settings.assumptions,
            )
            for sends in (1, _SENDS)
        )
        name = f"{_SENDS} sends of mu/{_SENDS}"
        yield Effect(name, "F", one.signal_to_noise, many.signal_to_noise, "")
        yield Effect(
            name,
            HONEST_BITS,
            one.bound_bits,
            many.bound_bits,
            "each send counted alone",
        )
        yield Effect(
            name, "bit per datum (journal)", one.data_bits_journal, many.data_bits_journal, ""
        )

    def _blocks(self) -> Iterator[Effect]:
        settings = self.settings
        question = BlockQuestion(
            modes=self.modes,
            rows=self.rows,
            rotation=IDEAL_ROTATION,
            receiver=settings.receiver,
            loss_db=0.0,
            technical_noise=0.0,
            assumptions=settings.assumptions,
            mean_photons=settings.light.mean_photons,
        )
        size = -(-self.modes // _BLOCKS)
        whole, small = block_effects(
            question, (self.modes, size), self.images, self.templates, seed=settings.seed
        )
        name = f"blocks of {size} modes"
        yield Effect(
            name,
            HONEST_BITS,
            whole.option.weights_bits_per_real,
            small.option.weights_bits_per_real,
            "only worth it where the rotation loses light",
        )
        yield Effect(name, "labels read (homodyne)", whole.label_success, small.label_success, "")

    def _quota(self) -> Iterator[Effect]:
        inputs, ratio = self.network.sizes[0], self.settings.signal_to_noise
        few, many = (queries_for_correlation(target, inputs, ratio) for target in (0.5, 0.9))
        yield Effect(
            "quota", "chosen queries to correlation 0.5 (left), 0.9 (right)", few, many, ""
        )

    def _phases(self) -> Iterator[Effect]:
        receiver = self.settings.receiver
        fixed, turned = (
            read_with_phases(
                self.images,
                self.templates,
                gain=receiver.gain,
                rows=self.rows,
                random_phases=phases,
                receiver=Detection.HETERODYNE,
                seed=self.settings.seed,
            )
            for phases in (False, True)
        )
        kick = kick_of(receiver)
        error = (fixed * (1.0 - fixed) / len(self.images.labels)) ** 0.5
        law = "the same in law" if kick.circular else "another law"
        remark = f"{law}; standard error {error:.2g} each"
        yield Effect("phase per row", "labels read (heterodyne)", fixed, turned, remark)
        extreme = phase_sensitive_kick(receiver)
        yield Effect(
            "phase-sensitive receiver",
            "evidence of the kicks, phases random",
            kick.evidence_with_phases,
            extreme.evidence_with_phases,
            "least noise that quantum mechanics allows; not built here",
        )

    def _mismatch(self) -> Iterator[Effect]:
        receiver = self.settings.receiver
        light = arriving(Server(self.network, self.settings.light.mean_photons).light(0), 1.0)
        reading = Reading(
            gain=receiver.gain,
            rows=self.rows,
            emission_factor=receiver.emission_factor,
            mismatch=_MISMATCH,
        )
        plain, turned, dithered = (
            read_mismatched_rows(
                self.images,
                self.templates,
                light,
                reading,
                random_phases=phases,
                dither=dither,
                seed=self.settings.seed,
                dimensions=_MISMATCH_DIMENSIONS,
            )
            for phases, dither in ((False, 0.0), (True, 0.0), (False, abs(_MISMATCH.gain_error)))
        )
        error = (plain * (1.0 - plain) / len(self.images.labels)) ** 0.5
        figure = f"labels read at delta {_MISMATCH.gain_error:.1%} (homodyne)"
        same = f"the same in law; standard error {error:.2g} each"
        yield Effect("phase per row", figure, plain, turned, same)
        yield Effect("dither of the gain", figure, plain, dithered, "the mean stays")

    def _decoys(self) -> Iterator[Effect]:
        settings, receiver = self.settings, self.settings.receiver
        hiding = DecoyHiding(decoys=_DECOYS)
        reading = Reading(
            gain=receiver.gain,
            rows=self.rows,
            emission_factor=receiver.emission_factor,
            receiver=Detection.HETERODYNE,
        )
        server = HiddenReading(self.templates, reading)
        open_, hidden = (
            server.success(self.images, self.pool, one, settings.seed)
            for one in (DecoyHiding(), hiding)
        )
        name = f"{_DECOYS} decoy"
        yield Effect(name, "labels read (heterodyne)", open_, hidden, "")
        before, after = (
            weights_bits(
                one,
                mean_photons=settings.light.mean_photons,
                receiver=receiver,
                modes=self.modes,
                assumptions=settings.assumptions,
            )
            for one in (DecoyHiding(), hiding)
        )
        yield Effect(name, HONEST_BITS, before, after, "the server accepts twice the noise")
