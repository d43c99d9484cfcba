"""Front panels: wire messages in, physical settings out."""
