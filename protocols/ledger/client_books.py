"""One run in the client's ledger: what its light tells the server of each input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Leakage
from labctl.protocols.ledger.accounts import input_account
from labctl.protocols.ledger.amounts import Amounts, Values
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.charges import COMPOSITION_OF_DATA, data_charge, times
from labctl.protocols.ledger.open_query import OpenQuery
from labctl.protocols.ledger.server_books import UNBOOKED
from labctl.safety import uninterrupted


@dataclass
class ClientBooks:
    """Books inputs on the client's accounts of them, which name none.

    rows: of the layer that carries the input itself.
    """

    ledger: Ledger
    leakage: Leakage
    rows: int
    run_file: str

    def __post_init__(self) -> None:
        self._secret = self.ledger.secret()
        self._data = data_charge(self.leakage, self.rows)

    def inputs(self, images: Floats) -> list[str]:
        """Return the account of each image (B, N)."""
        return [input_account(image, self._secret) for image in images]

    def fitting(self, images: Floats) -> int:
        """Return how many of the images, from the first on, fit all budgets now."""
        accounts = self.inputs(images)
        balances = self.ledger.balances_of(set(accounts))
        seen: Counter[str] = Counter()
        for count, account in enumerate(accounts):
            seen[account] += 1
            fits = balances[account].fitting(Amounts.of(self._data))
            if fits is not None and fits < seen[account]:
                return count
        return len(images)

    def reserve(self, images: Floats) -> ClientBatch:
        """Reserve for a batch of images, before their light is sent; raises BudgetError."""
        inputs = self.inputs(images)
        worst: dict[str, Values] = {
            account: times(self._data, count) for account, count in Counter(inputs).items()
        }
        about = {"run_file": self.run_file, "assumptions": [COMPOSITION_OF_DATA]}
        return ClientBatch(self, self.ledger.reserve(worst, about), tuple(inputs))


@dataclass
class ClientBatch:
    """A batch of inputs whose worst case is reserved in the client's ledger."""

    books: ClientBooks
    reserved: OpenQuery
    inputs: tuple[str, ...]

    def noted(self) -> Callable[[int], None]:
        """Return what has to be called before light comes; see `ServerBatch.noted`."""
        return self.reserved.noted(self.inputs)

    def book(self) -> None:
        """Book the batch as reserved: all of its light has come."""
        self.reserved.commit(self.reserved.worst_case, {"run_file": self.books.run_file})

    def release(self, reason: str) -> None:
        """Free the reservation; only if no light came."""
        self.reserved.release(reason)

    def close(self) -> None:
        """Book at the worst case what was not booked."""
        with uninterrupted():
            if self.reserved.is_open:
                self.reserved.commit(self.reserved.worst_case, UNBOOKED)
