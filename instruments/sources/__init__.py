"""Voltage-source drivers."""
