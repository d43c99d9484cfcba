"""Frames of light pulses: what generators play and what digitizers record of them."""
