"""Somebody on the fibre between server and client, who has neither weights nor inputs."""

from __future__ import annotations

from enum import StrEnum

from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.mounted import WeightThief
from labctl.studies.attacks.tampered_link import Path, Waypoint
from labctl.studies.attacks.weights_estimate import Notebook


class Leg(StrEnum):
    """Which way the light goes; the outsider is where it sets out and is brightest."""

    OUT = "out"
    RETURN = "return"


def name_on(leg: Leg, attack: str) -> str:
    """Return an attack's name, which says so if it is on the way back."""
    return attack if leg is Leg.OUT else f"{attack}-{leg}"


def mounted_on(
    leg: Leg, settings: SessionSettings, station: Waypoint, notebook: Notebook
) -> WeightThief:
    """Return a station mounted at the start of a leg; the client is honest and keeps nothing."""
    honest = Path.honest(settings)
    path = Path(
        honest.receiver,
        honest.leg_transmittance,
        departing=(station,) if leg is Leg.OUT else (),
        returning=(station,) if leg is Leg.RETURN else (),
    )
    return WeightThief.on(settings, path, notebook)
