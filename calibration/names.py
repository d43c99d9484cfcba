"""Names of measured quantities: each is spelled here once, so that a wrong one is a type error.

A record on disk has the spelled name, `server.v_pi_i_v`: the party whose hardware it is about, and
what it is with its unit. Where the station file has a nominal value in `[server.constants]` or
`[client.constants]`, the name is the constant's. In code a quantity has a constant of this module;
one that there is of each party, electrode or range is a `Family`, asked for its member.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Literal, NewType, TypeVar

from labctl import checks

Name = NewType("Name", str)
"""The name of a measured quantity, as a record has it. Another package's routine makes its own."""

Party = Literal["server", "client"]
Child = Literal["i", "q"]
Electrode = Literal["i", "q", "parent"]
Leg = Literal["forward", "back", "meter"]
Member = TypeVar("Member", bound=str | int)

PARTIES: tuple[Party, ...] = ("server", "client")
CHILDREN: tuple[Child, ...] = ("i", "q")
ELECTRODES: tuple[Electrode, ...] = ("i", "q", "parent")
LEGS: tuple[Leg, ...] = ("forward", "back", "meter")
# Ranges of an oscilloscope that are compared, in mV.
SCOPE_RANGES_MV = (100, 200, 500, 1000, 2000)


@dataclass(frozen=True)
class Family(Generic[Member]):
    """A quantity that there is of each of its `members`: `pattern` has {} in the member's place.

    >>> V_PI_V.of("q")
    'server.v_pi_q_v'
    >>> SHOT_NOISE_V2.member("client.shot_noise_v2")
    'client'
    """

    pattern: str
    members: tuple[Member, ...]

    def of(self, member: Member) -> Name:
        """Return the name of a member's quantity; raises SettingError for another member."""
        checks.one_of(self.pattern, member, self.members)
        return Name(self.pattern.format(member))

    def member(self, name: Name) -> Member:
        """Return the member that a quantity is of; raises KeyError for one of another family."""
        return {self.of(member): member for member in self.members}[name]

    def __contains__(self, name: object) -> bool:
        return any(name == each for each in self)

    def __iter__(self) -> Iterator[Name]:
        return (self.of(member) for member in self.members)


def constant(party: Party, field: str) -> Name:
    """Return the name of the quantity that is `field` in a party's constants."""
    return Name(f"{party}.{field}")


def _of_party(what: str) -> Family[Party]:
    return Family(f"{{}}.{what}", PARTIES)


def _of_scope(pattern: str) -> Family[int]:
    return Family(pattern, SCOPE_RANGES_MV)


@dataclass(frozen=True)
class DriveNames:
    """What a widely linear fit finds of the modulator's drive."""

    gain: Name
    quadrature_rad: Name
    carrier: Family[Child]
    cubic: Family[Child]


SCOPE_OFFSET_V: dict[Party, Family[int]] = {
    "server": _of_scope("server.scope_offset_{}mv_v"),
    "client": _of_scope("client.scope_offset_{}mv_v"),
}
SCOPE_GAIN = _of_scope("server.scope_gain_{}mv")
GENERATOR_OFFSET_V = Family("server.generator_offset_{}_v", CHILDREN)
V_PI_V = Family("server.v_pi_{}_v", CHILDREN)
BIAS_V_PI_V = Family("server.bias_v_pi_{}_v", ELECTRODES)
BIAS_NULL_V = Family("server.bias_null_{}_v", ELECTRODES)
BIAS_QUADRATURE_V = Family("server.bias_quadrature_{}_v", ELECTRODES)
LOCK_OFFSET_RAD = Family("server.lock_offset_{}_rad", ELECTRODES)
BIAS_DRIFT_V_RTH = Family("server.bias_drift_{}_v_rth", ELECTRODES)
DRIVE = DriveNames(
    Name("server.iq_gain"),
    Name("server.iq_quadrature_rad"),
    Family("server.carrier_{}", CHILDREN),
    Family("server.drive_cubic_{}", CHILDREN),
)
# What is left with the correction by DRIVE.
DRIVE_LEFT = DriveNames(
    Name("server.iq_gain_left"),
    Name("server.iq_quadrature_left_rad"),
    Family("server.carrier_{}_left", CHILDREN),
    Family("server.drive_cubic_{}_left", CHILDREN),
)
ATTENUATOR_SLOPE = Name("server.attenuator_slope")
ATTENUATOR_SLOPE_HOMODYNE = Name("server.attenuator_slope_homodyne")
LAUNCH_OVER_MONITOR = Name("server.launch_over_monitor")
FIXED_ATTENUATION_DB = Name("server.fixed_attenuation_db")
MEAN_PHOTONS_0_DB = Name("server.mean_photons_0_db")
PHASE_SHIFTER_V_PI_V = _of_party("phase_shifter_v_pi_v")
NOISE_RANGE_V = _of_party("noise_range_v")
ELECTRONIC_NOISE_V2 = _of_party("electronic_noise_v2")
ELECTRONIC_NOISE = _of_party("electronic_noise")
SHOT_NOISE_V2 = _of_party("shot_noise_v2")
BLOCKED_VARIANCE_V2 = _of_party("blocked_variance_v2")
BLOCKED_SAMPLES = _of_party("blocked_samples")
LO_LINEAR_V2_W = _of_party("lo_linear_v2_w")
LO_QUADRATIC_V2_W2 = _of_party("lo_quadratic_v2_w2")
LO_EXCESS_NOISE = _of_party("lo_excess_noise")
COMMON_MODE_REJECTION_DB = _of_party("common_mode_rejection_db")
CLEARANCE_DB = _of_party("clearance_db")
BAND_EDGE_CLEARANCE_DB = _of_party("band_edge_clearance_db")
EFFICIENCY = _of_party("efficiency")
ARRIVAL_S = _of_party("arrival_s")
TRANSMITTANCE = Name("server.transmittance")
# By power meters; "meter" is the round trip.
LEG_TRANSMITTANCE = Family("server.{}_transmittance", LEGS)
EXCESS_NOISE = Name("server.excess_noise")
GAIN_PER_V = Name("client.gain_per_v")
EMISSION_FACTOR = Name("client.emission_factor")
ROTATION_LOSS_DB_PER_MODE = Name("client.rotation_loss_db_per_mode")
ROTATION_FIDELITY = Name("client.rotation_fidelity")
ROTATION_ERROR_RAD = Name("client.rotation_error_rad")
CLONE_GAIN_ERROR = Name("client.clone_gain_error")
CLONE_PHASE_RAD = Name("client.clone_phase_rad")
