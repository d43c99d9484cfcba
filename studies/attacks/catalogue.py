"""All attacks by name, with how hard each can try."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from labctl.data.mnist import LabelledImages, load_test_images
from labctl.errors import SettingError
from labctl.studies.attacks.adaptive_tap import AdaptiveTap
from labctl.studies.attacks.attack import Attack, Attacker
from labctl.studies.attacks.block_decision import BlockDecision
from labctl.studies.attacks.chosen_inputs import ChosenInputs
from labctl.studies.attacks.copies.classes_alone import ClassesAlone
from labctl.studies.attacks.copies.honest_optics import ChosenPrincipalInputs, ModelCopy
from labctl.studies.attacks.copies.principal_modes import PrincipalModes
from labctl.studies.attacks.copies.stolen import MOST_DIRECTIONS, PublicImages
from labctl.studies.attacks.heterodyne_resend import HeterodyneResend
from labctl.studies.attacks.hidden_tap import HiddenTap
from labctl.studies.attacks.intercept_resend import InterceptResend
from labctl.studies.attacks.label_reading import LabelReading
from labctl.studies.attacks.level_decision import LevelDecision
from labctl.studies.attacks.local_oscillator import LocalOscillator
from labctl.studies.attacks.more_modes import CloneMoreModes
from labctl.studies.attacks.outsider import Leg
from labctl.studies.attacks.over_gain import OverGain
from labctl.studies.attacks.own_laser import NothingReturned, OwnLaser
from labctl.studies.attacks.probes import BrightProbes, ProbeShape
from labctl.studies.attacks.quantum_memory import QuantumMemory
from labctl.studies.attacks.squeezed_probes import SqueezedProbes
from labctl.studies.attacks.tap import Tap
from labctl.studies.attacks.tap_and_squeeze import TapAndSqueeze

_SHARE = "0 to 1"
# The client's splitter returns 1 % too much: an ordinary mismatch of a clone.
_GAIN_ERROR = 0.01


@dataclass(frozen=True)
class AttackKind:
    """One kind of attack.

    `parameter`: what its strength is, in `unit` (empty for a pure number), `valid` in words what
    it may be and `default` a strength that suits the reference settings. `make` raises SettingError
    for a strength outside.
    """

    name: str
    party: Attacker
    summary: str
    parameter: str
    unit: str
    valid: str
    default: float
    make: Callable[[float], Attack]


_CLIENT = (
    AttackKind(
        "over-gain",
        Attacker.CLIENT,
        "amplifies mode b more than agreed",
        "gain",
        "",
        "the agreed gain or more, at most 1e6",
        4.0,
        OverGain,
    ),
    AttackKind(
        "clone-more-modes",
        Attacker.CLIENT,
        "clones further modes in addition to that of its input",
        "modes",
        "modes per block",
        "a whole number, 1 (honest) or more",
        10.0,
        CloneMoreModes,
    ),
    AttackKind(
        "heterodyne-resend",
        Attacker.CLIENT,
        "reads X and P of some modes and sends coherent light on",
        "share",
        "of the modes",
        _SHARE,
        0.01,
        HeterodyneResend,
    ),
    AttackKind(
        "hidden-tap",
        Attacker.CLIENT,
        "taps what the server believes lost; leaves no trace",
        "share",
        "of the loss in dB",
        _SHARE + ", and the link or the rotation must be lossy",
        1.0,
        HiddenTap,
    ),
    AttackKind(
        "own-laser",
        Attacker.CLIENT,
        "keeps the light of some modes and returns its best guess",
        "share",
        "of the modes",
        _SHARE,
        0.01,
        OwnLaser,
    ),
    AttackKind(
        "nothing-returned",
        Attacker.CLIENT,
        "keeps the light of some modes and returns none",
        "share",
        "of the modes",
        _SHARE,
        0.01,
        NothingReturned,
    ),
    AttackKind(
        "chosen-inputs",
        Attacker.CLIENT,
        "feeds in basis vectors to read single weights; honest optics",
        "share",
        "of the queries",
        _SHARE,
        1.0,
        ChosenInputs,
    ),
    AttackKind(
        "local-oscillator",
        Attacker.CLIENT,
        "dims the server's local oscillator after its calibration, resends modes behind it",
        "dimming",
        "of the power",
        "-10 (brighter) to below 1",
        0.1,
        LocalOscillator,
    ),
)

_OVER_QUERIES = (
    AttackKind(
        "quantum-memory",
        Attacker.CLIENT,
        "couples ancillas to the same weights in every query, reads them at the end",
        "budget",
        "of an honest clone's noise",
        "0 (honest) to 100; at 1 or more it clones nothing and has no result",
        1.0,
        QuantumMemory,
    ),
    AttackKind(
        "adaptive-tap",
        Attacker.CLIENT,
        "taps in every query and refills from what it has read before",
        "budget",
        "of an honest clone's noise",
        "0 (honest) to 100; at 1 or more it clones nothing and has no result",
        1.0,
        AdaptiveTap,
    ),
    AttackKind(
        "tap-and-squeeze",
        Attacker.CLIENT,
        "taps, and squeezes the rest back to full amplitude where light is on one quadrature",
        "budget",
        "of an honest clone's noise",
        "0 (honest) to 100; at 1 or more it clones nothing and has no result",
        1.0,
        TapAndSqueeze,
    ),
    AttackKind(
        "level-decision",
        Attacker.CLIENT,
        "reads modes of a network with few levels, decides, resends what it decided",
        "share",
        "of the modes",
        _SHARE,
        1.0,
        LevelDecision,
    ),
    AttackKind(
        "block-decision",
        Attacker.CLIENT,
        "reads rows made of known codewords, decides on words, resends what it decided",
        "share",
        "of the rows",
        _SHARE,
        1.0,
        BlockDecision,
    ),
)

# Half of what a thief of copies has by default (5,000): the catalogue's sessions are short.
_PUBLIC_COUNT = 2500


@lru_cache(maxsize=1)
def _unlabelled() -> PublicImages:
    """Return what a thief of copies has: every other of the public images, without labels."""
    return PublicImages(_public_images().images[::2][:_PUBLIC_COUNT])


def _whole(name: str, strength: float) -> int:
    if not (math.isfinite(strength) and float(strength).is_integer()):
        raise SettingError(name, strength, "a whole number, 1 or more")
    return int(strength)


_COPIES = (
    AttackKind(
        ClassesAlone.name,
        Attacker.CLIENT,
        "copies from the classes of chosen public images alone, as from any service",
        "queries",
        "chosen",
        "a whole number, 1 or more, at most a quarter of the public images",
        10.0,
        lambda strength: ClassesAlone(_unlabelled(), _whole("classes-alone queries", strength)),
    ),
    AttackKind(
        ModelCopy.name,
        Attacker.CLIENT,
        "copies by regression of the values that an honest client measures",
        "directions",
        "of the prior",
        f"a whole number, 1 to {MOST_DIRECTIONS}",
        float(MOST_DIRECTIONS),
        lambda strength: ModelCopy(
            _unlabelled(), directions=_whole("model-copy directions", strength)
        ),
    ),
    AttackKind(
        ChosenPrincipalInputs.name,
        Attacker.CLIENT,
        "the same with principal directions of public images in place of images",
        "directions",
        "to choose from",
        f"a whole number, 1 to {MOST_DIRECTIONS}",
        float(MOST_DIRECTIONS),
        lambda strength: ChosenPrincipalInputs(
            _unlabelled(), directions=_whole("chosen-principal-inputs directions", strength)
        ),
    ),
    AttackKind(
        PrincipalModes.name,
        Attacker.CLIENT,
        "reads principal directions of the light by QND, layer after layer",
        "noise",
        "of an honest clone",
        "above 0",
        1.0,
        lambda strength: PrincipalModes(_unlabelled(), strength),
    ),
)

_OUTSIDER = (
    AttackKind(
        "tap",
        Attacker.OUTSIDER,
        "takes light off the fibre on the way to the client",
        "share",
        "of the power",
        "0 to below 1",
        0.01,
        Tap,
    ),
    AttackKind(
        "tap-return",
        Attacker.OUTSIDER,
        "takes light off the fibre on the way back",
        "share",
        "of the power",
        "0 to below 1",
        0.01,
        lambda strength: Tap(strength, Leg.RETURN),
    ),
    AttackKind(
        "intercept-resend",
        Attacker.OUTSIDER,
        "reads modes on the way to the client and sends coherent light on",
        "share",
        "of the modes",
        _SHARE,
        0.01,
        InterceptResend,
    ),
    AttackKind(
        "intercept-resend-return",
        Attacker.OUTSIDER,
        "reads modes on the way back and sends coherent light on",
        "share",
        "of the modes",
        _SHARE,
        0.01,
        lambda strength: InterceptResend(strength, Leg.RETURN),
    ),
)


def _public_images() -> LabelledImages:
    """Return what a curious server compares with: the second half of the shipped test images."""
    shipped = load_test_images()
    half = len(shipped.images) // 2
    return LabelledImages(shipped.images[half:], shipped.labels[half:])


def _label_reading(strength: float) -> Attack:
    if not (math.isfinite(strength) and strength >= 1.0 and float(strength).is_integer()):
        raise SettingError("label-reading repeats", strength, "a whole number, 1 or more")
    return LabelReading(_public_images(), int(strength))


_SERVER = (
    AttackKind(
        "label-reading",
        Attacker.SERVER,
        "reads the class from the noise of honest returned light; leaves no trace",
        "repeats",
        "queries per image",
        "a whole number, 1 or more",
        1.0,
        _label_reading,
    ),
    AttackKind(
        "bright-probes",
        Attacker.SERVER,
        "sends brighter rows than agreed to a client whose clone is off by 1 % in amplitude",
        "brightness",
        "of the agreed photons",
        "above 0",
        100.0,
        lambda strength: BrightProbes(strength, _GAIN_ERROR),
    ),
    AttackKind(
        "structured-probes",
        Attacker.SERVER,
        "sends rows with all light on one mode each to a client whose clone is off by 1 %",
        "brightness",
        "of the agreed photons",
        "above 0",
        100.0,
        lambda strength: BrightProbes(strength, _GAIN_ERROR, ProbeShape.ONE_HOT),
    ),
    AttackKind(
        "squeezed-probes",
        Attacker.SERVER,
        "sends squeezed light to read the class from less noise",
        "squeezing",
        "dB",
        "0 to 60",
        10.0,
        lambda strength: SqueezedProbes(strength, _public_images()),
    ),
)

ATTACKS: Mapping[str, AttackKind] = MappingProxyType(
    {kind.name: kind for kind in (*_CLIENT, *_OVER_QUERIES, *_COPIES, *_OUTSIDER, *_SERVER)}
)


def attack_of(name: str, strength: float | None = None) -> Attack:
    """Return the attack of that name, of its default strength if none is given.

    Raises SettingError for a name or a strength that does not exist.
    """
    kind = ATTACKS.get(name)
    if kind is None:
        close = difflib.get_close_matches(name, ATTACKS, 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise SettingError("attack", name, f"one of {', '.join(ATTACKS)}{hint}")
    if strength is None:
        return kind.make(kind.default)
    try:
        return kind.make(strength)
    except SettingError as error:
        valid = f"{error.valid} ({kind.parameter}, {kind.unit or 'no unit'})"
        raise SettingError("strength", strength, valid) from error
