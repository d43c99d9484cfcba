"""Stations: any set of instruments, opened from a file, kept within limits, always left safe."""

from labctl.station.check import can_serve
from labctl.station.station import Station, describe

__all__ = ["Station", "can_serve", "describe"]
