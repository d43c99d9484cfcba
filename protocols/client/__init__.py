"""The client's half: inputs, activations, receiver and measured values; no weights."""

from labctl.protocols.client.activations import Client, directions_of

__all__ = ["Client", "directions_of"]
