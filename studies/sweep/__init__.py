"""Sweeps: a grid of settings, each point a pure function of its settings and its seed."""
