"""The simulated bench: physics, front panels and the doors through which messages come."""
