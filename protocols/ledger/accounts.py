"""Accounts: who leaks to whom, what each holds, and when the next query is refused."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from labctl.errors import BudgetError, SettingError
from labctl.party import Party
from labctl.protocols.encoding import Floats, unit_norm
from labctl.protocols.ledger.amounts import Amounts, Meter
from labctl.wording import counted

__all__ = [
    "ANY",
    "Balance",
    "Party",
    "checked_client",
    "client_of",
    "input_account",
    "named",
    "title",
    "weights_account",
]

_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_IDENTITY_PURPOSE = b"labctl ledger: identity of an input"
ANY = "any"


def weights_account(client: str, model_sha256: str) -> str:
    """Return the server's account for one client and one model; raises SettingError."""
    checked_client(client)
    if not _SHA256.fullmatch(model_sha256):
        raise SettingError("model", model_sha256, "a SHA-256, 64 hexadecimal digits")
    return f"{client}/{model_sha256}"


def checked_client(client: str) -> str:
    """Return a client's name; raises SettingError for one that an account can not have."""
    if not _CLIENT.fullmatch(client) or client.lower() == ANY:
        raise SettingError(
            "client", client, f"1 to 64 letters, digits and _.@+-, not {ANY!r}, no sign first"
        )
    return client


def client_of(account: str) -> str:
    """Return the client's name in a server's account."""
    return account.partition("/")[0]


def input_account(image: Floats, secret: bytes) -> str:
    """Return the client's account for one input (N,): a keyed SHA-256 of what is sent of it.

    Of the values scaled to unit norm, as float32: the receiver never sees another scale. Two
    inputs that differ in any value are two accounts, however alike they look. Without the secret
    the name tells nothing of the input. Raises SettingError for values that are not finite.
    """
    if image.ndim != 1 or not bool((abs(image) < float("inf")).all()):
        raise SettingError("input", image.shape, "one vector of finite values")
    # Adding zero turns -0.0, which is sent as 0.0 is, into 0.0.
    sent = unit_norm(image[None])[0].astype("<f4") + 0.0
    key = hmac.new(secret, _IDENTITY_PURPOSE, hashlib.sha256).digest()
    return hmac.new(key, sent.astype("<f4").tobytes(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Balance:
    """The state of one account: spent, reserved, and the limits that its budget sets.

    What is reserved counts as spent until it is known to be less: a process that died between
    sending light and booking it may have leaked all that it had reserved.
    """

    account: str
    spent: Amounts = field(default_factory=Amounts)
    reserved: Amounts = field(default_factory=Amounts)
    limits: Amounts = field(default_factory=Amounts)

    @property
    def taken(self) -> Amounts:
        """Spent and reserved together."""
        return self.spent + self.reserved

    def left(self, meter: Meter) -> int | None:
        """Return the units that may still be taken, below 0 if overdrawn; None: no limit."""
        limit = self.limits.units.get(meter)
        return None if limit is None else limit - self.taken.unit(meter)

    @property
    def overdrawn(self) -> bool:
        """Whether more was used than the budget allows; then every query is refused."""
        return any((self.left(meter) or 0) < 0 for meter in self.limits.units)

    def fitting(self, each: Amounts) -> int | None:
        """Return how many more times `each` fits; None if nothing limits it."""
        if self.overdrawn:
            return 0
        counts = [
            (self.left(meter) or 0) // each.unit(meter)
            for meter in self.limits.units
            if each.unit(meter) > 0
        ]
        return min(counts, default=None)

    def refuse_beyond(self, asked: Amounts) -> None:
        """Raise BudgetError, with all that decides, if `asked` does not fit the budget."""
        for meter in sorted(self.limits.units):
            left = self.left(meter)
            if left is not None and (left < 0 or asked.unit(meter) > left):
                raise BudgetError(self._refusal(meter, asked))

    def _refusal(self, meter: Meter, asked: Amounts) -> str:
        parts = {"spent": self.spent, "reserved": self.reserved, "asked for": asked}
        shown = [f"{meter.shown(part.value(meter)):.6g} {name}" for name, part in parts.items()]
        fitting = counted(
            self._fitting_queries(asked), "more such query fits", "more such queries fit"
        )
        return (
            f"budget of {named(self.account)}: {', '.join(shown)}, of "
            f"{meter.shown(self.limits.value(meter)):.6g} {meter.words} allowed; {fitting}"
        )

    def _fitting_queries(self, asked: Amounts) -> int:
        """Return how many single queries of such a request still fit."""
        queries = max(round(asked.value(Meter.QUERIES)), 1)
        each = Amounts({name: -(-units // queries) for name, units in asked.units.items()})
        return self.fitting(each) or 0


def named(account: str) -> str:
    """Return an account for people: client and the beginning of the model's or input's digest."""
    client, slash, model = account.partition("/")
    return f"client {client} on model {model[:12]}" if slash else f"input {account[:12]}"


def title(account: str) -> str:
    """Return an account for people, that of any included."""
    return "any account" if account == ANY else named(account)


Balances = Mapping[str, Balance]
