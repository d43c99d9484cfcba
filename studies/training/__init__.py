"""Training with the physical noise in the loop: settings, data, the loop, what came of it."""
