"""Which panel of a bench belongs to whom: the sides, where their doors are, who may come in.

A bench file may name sides, each with the panels that are its own:

    [doors.server]
    panels = ["server_laser", "server_scope"]
    host = "127.0.0.1"
    first_port = 24800
    from = ["127.0.0.0/8"]
    users = ["labctl-server"]

They are for the doors of a served bench. A program that has the bench inside itself holds it whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

LOOPBACK_NETWORK = IPv4Network("127.0.0.0/8")
HIGHEST_PORT = 65535
# Of each panel in turn: HiSLIP, then the raw socket. A panel without HiSLIP leaves its own unused,
# so that a port depends on a panel's place alone.
PORTS_OF_A_PANEL = 2


def _address(value: Any) -> str:
    """Return an IPv4 address in its one spelling; raises ValueError for all others."""
    try:
        address = IPv4Address(value) if isinstance(value, str) else None
    except ValueError:
        address = None
    if address is None or address.is_unspecified or address.is_multicast:
        raise ValueError("must be one IPv4 address of the bench's machine, as 127.0.0.1")
    return str(address)


def _network(value: Any) -> IPv4Network:
    """Return a network; raises ValueError for what is none, or has bits beyond its prefix."""
    try:
        if isinstance(value, str):
            return IPv4Network(value)
    except ValueError:
        pass
    raise ValueError(
        "must be an IPv4 network in CIDR notation, with no bits set beyond its prefix, "
        "as 192.0.2.0/24"
    )


class SideTable(BaseModel):
    """The doors of one side.

    `panels` in the order of their ports; `host`: the address that they listen on; `first_port`: of
    consecutive fixed ports, free ones without; `from`: networks that connections are accepted
    from; `users`: whose programs on the bench's own machine, anybody's without.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    panels: Annotated[tuple[str, ...], Field(min_length=1)]
    host: Annotated[str, BeforeValidator(_address)] = "127.0.0.1"
    first_port: Annotated[int, Field(strict=True, ge=1, le=HIGHEST_PORT)] | None = None
    networks: Annotated[
        tuple[Annotated[IPv4Network, BeforeValidator(_network)], ...],
        Field(alias="from", min_length=1),
    ] = (LOOPBACK_NETWORK,)
    users: (
        Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)] | None
    ) = None

    def ports(self) -> range:
        """Return the fixed ports; empty without any."""
        if self.first_port is None:
            return range(0)
        return range(self.first_port, self.first_port + PORTS_OF_A_PANEL * len(self.panels))


SideName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]


@dataclass(frozen=True)
class PanelDoors:
    """The doors of one panel that has a side.

    `hislip_port` and `socket_port`: 0 for a free one; `users`: None for anybody.
    """

    side: str
    host: str
    hislip_port: int
    socket_port: int
    networks: tuple[IPv4Network, ...]
    users: tuple[str, ...] | None
