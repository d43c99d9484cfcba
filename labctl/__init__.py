"""labctl: hardware-in-the-loop lab control for quantum-secure deep learning."""

__version__ = "0.1.0"
