"""What one computes about the protocol: attacks, plans, training, sweeps, coverage of intervals."""
