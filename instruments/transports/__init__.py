"""Transports: how a driver's messages reach an instrument and its replies come back."""
