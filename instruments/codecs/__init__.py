"""Codecs: bytes in, messages out, no I/O; shared by drivers and front panels."""
