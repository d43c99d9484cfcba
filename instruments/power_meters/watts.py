"""Powers in W from a meter whose front panel may show them in dBm."""

from __future__ import annotations

from collections.abc import Callable

from labctl.errors import ReplyError
from labctl.instruments.transports.scpi_session import ScpiSession

BEYOND_RANGE_W = 1e9
"""No meter reads that much: a reply beyond it means overload, and no range goes that far."""


def power_in_watts(
    scpi: ScpiSession, query: str, *, unit: str, is_watts: Callable[[str, str], bool], to_watts: str
) -> float:
    """Return the power in W that `query` replies; raises ReplyError beyond any meter's range.

    unit: the query for the unit; is_watts: whether its reply to a command means W; to_watts: the
    setting that makes it so. The front panel can change the unit at any time, so that it is asked
    for in the same message as the power: nobody changes it between the two.
    """
    both = f"{unit};:{query}"
    shown, reply = scpi.fields(both, "unit and power")
    if not is_watts(shown, both):
        scpi.set(to_watts)
        shown, reply = scpi.fields(both, "unit and power")
        if not is_watts(shown, both):
            raise ReplyError(scpi.name, f"unit is {shown!r} after it was set to W", both)
    reply = scpi.confirmed(query, reply, lambda: scpi.fields(both, "unit and power")[1])
    power_w = scpi.as_number(reply, query)
    if abs(power_w) > BEYOND_RANGE_W:
        raise ReplyError(scpi.name, f"power is beyond the range ({power_w:g})", query)
    return power_w
