"""The public face: what `import labctl` offers, each as one call with defaults."""
