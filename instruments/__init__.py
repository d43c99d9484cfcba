"""Instruments: capabilities, drivers by kind, their transports, and simulated stand-ins."""
