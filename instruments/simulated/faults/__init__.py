"""Faults of a simulated bench: on the wires of its panels and in its light, planned in a file."""
