"""Waveform-generator drivers."""
