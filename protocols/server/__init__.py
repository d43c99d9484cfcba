"""The server's half: weights, light, disguise and verification; nothing of a client's data."""

from labctl.protocols.server.plain import Server

__all__ = ["Server"]
