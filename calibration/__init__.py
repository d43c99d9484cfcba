"""Calibration: what was measured about the hardware, with uncertainty."""
