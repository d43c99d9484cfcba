"""Digitizer drivers: boards that record voltages but show nothing."""
