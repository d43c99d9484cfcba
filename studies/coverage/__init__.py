"""Coverage: how often calibration's intervals hold the truth that only a simulated bench knows."""
