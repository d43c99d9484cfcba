"""How much of X and of P of each row one query shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.protocols.link import ReturnedLight

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ReadShares:
    """One query whose rows are read as X cos + P sin.

    `cosine`, `sine` (rows,). `squares` (3, rows): cos^2, cos sin and sin^2. `on_x` (rows,): whether
    X is read, where each row shows X or P alone; None otherwise.
    """

    cosine: Doubles
    sine: Doubles
    squares: Doubles
    on_x: npt.NDArray[np.bool_] | None

    @classmethod
    def of(cls, cosine: Doubles, sine: Doubles) -> ReadShares:
        """Return those of a query."""
        on_x = cosine == 1.0
        squares = np.empty((3, len(cosine)))
        np.multiply(cosine, cosine, out=squares[0])
        np.multiply(cosine, sine, out=squares[1])
        np.multiply(sine, sine, out=squares[2])
        alone = bool((cosine == on_x).all() and (sine == ~on_x).all())
        return cls(cosine, sine, squares, on_x if alone else None)

    @classmethod
    def of_light(cls, returned: ReturnedLight) -> ReadShares:
        """Return those of light as it was read."""
        cosine, sine = (
            np.asarray(part, np.float64)[:, 0] for part in (returned.cosine, returned.sine)
        )
        return cls.of(cosine, sine)
