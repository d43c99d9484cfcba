"""Laser drivers."""
