"""All thieves of copies by name, each as hard as it can try in a given number of queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from labctl.protocols.copies.table import ACCEPTANCE
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Attack
from labctl.studies.attacks.copies.classes_alone import ClassesAlone
from labctl.studies.attacks.copies.honest_optics import ChosenPrincipalInputs, ModelCopy, Prior
from labctl.studies.attacks.copies.principal_modes import PrincipalModes
from labctl.studies.attacks.copies.stolen import PublicImages

Make = Callable[[PublicImages, int, Sequence[int], SessionSettings], Attack]


@dataclass(frozen=True)
class Thief:
    """A way to build a copy; `attack` gives the attack for public images, queries, layer sizes."""

    name: str
    summary: str
    attack: Make


def _hidden(
    public: PublicImages, queries: int, sizes: Sequence[int], settings: SessionSettings
) -> Attack:
    return PrincipalModes(public).hidden_in(queries, sizes, settings, ACCEPTANCE)


def _at_once(
    public: PublicImages, queries: int, sizes: Sequence[int], settings: SessionSettings
) -> Attack:
    return PrincipalModes(public).at_once_in(queries, sizes, settings, ACCEPTANCE)


_ALL = (
    Thief(
        "classes-alone",
        "asks for classes of well-chosen public images: what any service gives away",
        lambda public, queries, sizes, settings: ClassesAlone(public, queries),
    ),
    Thief(
        "model-copy-flat",
        "ridge regression of what an honest client measures, unit prior variance",
        lambda public, queries, sizes, settings: ModelCopy(public, Prior.FLAT),
    ),
    Thief(
        "model-copy",
        "the same with the images' covariance as prior",
        lambda public, queries, sizes, settings: ModelCopy(public),
    ),
    Thief(
        "chosen-principal-inputs",
        "honest optics set to principal directions in place of images",
        lambda public, queries, sizes, settings: ChosenPrincipalInputs(public),
    ),
    Thief(
        "principal-modes",
        "QND of principal directions at exactly the honest noise",
        lambda public, queries, sizes, settings: PrincipalModes(public),
    ),
    Thief(
        "principal-modes-hidden",
        "the same with the noise that hides in the sample size",
        _hidden,
    ),
    Thief(
        "principal-modes-at-once",
        "all of that noise in the first query, none in the others",
        _at_once,
    ),
)
THIEVES: Mapping[str, Thief] = MappingProxyType({thief.name: thief for thief in _ALL})
