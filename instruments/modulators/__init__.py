"""Drivers of modulator-bias controllers and modulator boxes."""
