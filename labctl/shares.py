"""Shares that were counted in a sample, and what share of all they are consistent with."""

from __future__ import annotations

# Two standard deviations, as physicists print intervals.
CONFIDENCE = 0.95


def share_interval(
    share: float, total: float, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of the true share (Biometrika 26, 404 (1934)).

    share: of `total` counted, 0 to 1; total: above 0. It covers the truth with at least this
    confidence for any number: one of one is anything from 2.5 % on.

    >>> [round(end, 3) for end in share_interval(1.0, 1)]
    [0.025, 1.0]
    """
    from scipy.special import betainccinv, betaincinv

    tail, count = 0.5 * (1.0 - confidence), share * total
    missed = total - count
    lower = float(betaincinv(count, missed + 1.0, tail)) if count > 0.0 else 0.0
    upper = float(betainccinv(count + 1.0, missed, tail)) if missed > 0.0 else 1.0
    return lower, upper


def share_in_words(share: float, total: float, digits: int = 1) -> str:
    """Return a share with its interval at 95 %, in per cent.

    >>> share_in_words(0.0, 1), share_in_words(0.965, 1000)
    ('0.0% (0.0 to 97.5)', '96.5% (95.2 to 97.6)')
    """
    low, high = (f"{100.0 * end:.{digits}f}" for end in share_interval(share, total))
    return f"{share:.{digits}%} ({low} to {high})"
