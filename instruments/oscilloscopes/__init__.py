"""Oscilloscope and digitizer drivers."""
