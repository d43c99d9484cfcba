"""What evidence says of a session: one frozen value, which every format writes under these names.

Everything else that a run file holds stays in it: weights, images, classes, measured values and
returned light have no field here, and a field that is not here is refused.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from labctl.data.session_record import Identity, Kind, Sha256


class VerdictName(StrEnum):
    """What the server's verification came to; NOT_VERIFIED: nobody looked at the returned light."""

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    NOT_VERIFIED = "NOT-VERIFIED"


LEAKAGE_LIMIT = "leakage limit"
"""Failed where the leakage bound is above the limit that was set; not one of the checks."""
NOT_STATED = "not stated"
"""Failed where a client was rejected: the server does not say which of its checks."""


def _utc(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("expected a time with its time zone")
    return text


def milliseconds(utc: str) -> int:
    """Return a time of the facts in milliseconds since 1970-01-01 UTC."""
    return round(datetime.fromisoformat(utc).timestamp() * 1000.0)


Utc = Annotated[str, AfterValidator(_utc)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """A part of evidence: frozen, of exactly these fields, with finite numbers.

    Statements write its names in camelCase, events as they stand.
    """

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        alias_generator=to_camel,
        populate_by_name=True,
    )


class SessionFacts(Part):
    """Which session: `identified_by` says what `id` is made of where none was given to it.

    `party`: whose run file it is of, None for that of both. `link`: mode (light drawn from its
    exact distribution, no instrument) or bench. `run_status`: how the run ended.
    """

    id: str = Field(min_length=1)
    identified_by: Literal["session id", "header of the run file"]
    kind: Kind
    party: Literal["server", "client"] | None
    link: Literal["mode", "bench"]
    run_status: Literal["complete", "aborted", "interrupted", "failed"]
    started_utc: Utc
    finished_utc: Utc | None


class ModelFacts(Part):
    """The network by its name and hash; see `labctl.data.models.Network.sha256`."""

    name: str
    sha256: Sha256


class CheckFacts(Part):
    """One check of the returned light; numbers None where there was nothing to check it by."""

    name: str
    passed: bool | None
    statistic: float | None
    threshold: float | None
    p_value: Probability | None
    false_alarm_probability: Probability
    sentence: str


class ClientFacts(Part):
    """Who the client is: by certificate, key, name alone, or not known (None).

    `fingerprint`: SHA-256 of the SubjectPublicKeyInfo of its key or certificate.
    """

    name: str | None
    identity: Identity | None
    fingerprint: Sha256 | None


class LightFacts(Part):
    """The light: μ (photons per mode), G, the bounds T_low and ε_up (SNU, at the server).

    The bounds are None where no returned light was read; `samples`: quadratures that were, None
    where the run file does not say.
    """

    mean_photons: float = Field(gt=0.0)
    gain: float = Field(gt=1.0)
    transmittance_lower: float | None
    excess_noise_upper: float | None
    samples: Count | None


class BitsFacts(Part):
    """What the client may have learned of the weights.

    `prior_free`, `network`, `honest`: bits per weight and query at the bounds, None where no
    returned light was read. `cumulative`: bits per real weight of all `queries` together, by
    `cumulative_basis`, None where the run file does not say. `not_valid`: why no figure in bits
    holds for this network, None where nothing speaks against them.
    """

    prior_free: float | None
    network: float | None
    honest: float | None
    cumulative: float | None
    cumulative_basis: str | None
    queries: Count | None
    not_valid: str | None


class AssumptionsFacts(Part):
    """What the figures assume: loss and technical noise trusted or not, and all of it in words."""

    loss: Literal["trusted", "untrusted"]
    technical_noise: Literal["trusted", "untrusted"]
    in_words: tuple[str, ...] = Field(min_length=1)


class AccountFacts(Part):
    """The client's account in the server's ledger after the session, by meter of the ledger."""

    spent: dict[str, float]
    reserved: dict[str, float]
    budget: dict[str, float]
    overdrawn: bool
    queries_left: int | None
    basis: str | None


class BuilderFacts(Part):
    """The software that made the run."""

    id: Literal["labctl"] = "labctl"
    version: str


class MaterialFacts(Part):
    """A calibration record that the session rests on: the routine that made it, and its id."""

    name: str
    id: str


class Facts(Part):
    """All that evidence says of one session.

    `failed`: the checks that failed, and the leakage limit, or that it is not stated; empty unless
    rejected.
    `server_fingerprint`: of its key or certificate. `failure_probability` of the bounds,
    `false_alarm_probability` of the verdict.
    """

    session: SessionFacts
    model: ModelFacts
    verdict: VerdictName
    reason: str
    failed: tuple[str, ...]
    checks: tuple[CheckFacts, ...]
    client: ClientFacts
    server_fingerprint: Sha256 | None
    light: LightFacts
    bits: BitsFacts
    failure_probability: Probability
    false_alarm_probability: Probability | None
    assumptions: AssumptionsFacts
    account: AccountFacts | None
    ledger_head: Sha256 | None
    client_ledger_head: Sha256 | None
    transcript_sha256: Sha256 | None
    builder: BuilderFacts
    materials: tuple[MaterialFacts, ...]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        """Refuse a verdict that its own checks contradict."""
        failed = [check.name for check in self.checks if check.passed is False]
        named = [name for name in self.failed if name not in {LEAKAGE_LIMIT, NOT_STATED}]
        if named != failed:
            raise ValueError(f"failed: expected the checks that failed, {failed}, got {named}")
        if (self.verdict is VerdictName.REJECTED) != bool(self.failed):
            raise ValueError(f"verdict {self.verdict}: does not agree with failed checks {failed}")
        read = self.light.transmittance_lower is not None
        if read == (self.verdict is VerdictName.NOT_VERIFIED):
            raise ValueError(f"verdict {self.verdict}: does not agree with the bounds of the light")
        return self
