"""Optical and electrical physics of the simulated bench: pure, seeded, no strings."""
