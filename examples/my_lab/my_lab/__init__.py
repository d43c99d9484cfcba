"""Instruments of my lab: a driver and its front panel."""
