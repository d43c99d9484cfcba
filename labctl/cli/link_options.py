"""Shared options whose values are kinds of the protocol: trust, receiver, way of reading labels."""

from __future__ import annotations

from typing import Annotated

from labctl.cli.options import LIGHT, SUBJECT, TRUST, shared
from labctl.protocols.labels.reading import Detection
from labctl.protocols.leakage import Trust
from labctl.protocols.own_oscillator import LocalOscillatorKind
from labctl.protocols.receiver import ReceiverKind

LossTrust = Annotated[
    Trust,
    shared("--loss", TRUST, "Untrusted (the worst case): the client may hold the lost light."),
]
NoiseTrust = Annotated[
    Trust,
    shared("--noise", TRUST, "Untrusted (the worst case): technical noise is the client's."),
]
Receiver = Annotated[
    ReceiverKind,
    shared("--receiver", LIGHT, "Client's receiver: how it clones the mode that it measures."),
]
OptionalLocalOscillator = Annotated[
    LocalOscillatorKind | None,
    shared(
        "--local-oscillator",
        LIGHT,
        "Client's local oscillator: sent by the server (default), or its own laser, tracked by "
        "pilots.",
    ),
]
Detections = Annotated[
    list[Detection] | None,
    shared(
        "--detection",
        SUBJECT,
        "How the server reads the returned light; may be repeated (default: every way).",
    ),
]
