"""Calibration routines, one quantity or a few that belong together in each file."""
