"""Doors over the network: a simulated bench for programs in other processes."""
