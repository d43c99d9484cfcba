"""The two parties of a session, named alike in ledgers, run files and messages."""

from __future__ import annotations

from enum import StrEnum


class Party(StrEnum):
    """Who has what: the server has the network's weights, the client its inputs and classes."""

    SERVER = "server"
    CLIENT = "client"
