"""The classical channel between a server and a client that do not trust each other."""
