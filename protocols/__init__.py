"""Protocols: quantum-secure inference, its links, verification and leakage."""
