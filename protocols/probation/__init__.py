"""Queries with worthless weights: a client is watched before it is served, and while it is."""
