"""Attacks on the protocol: dishonest clients, dishonest servers, outsiders on the line."""
