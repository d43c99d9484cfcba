"""Optical power-meter drivers."""
