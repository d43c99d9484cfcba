"""Optical attenuator drivers."""
