"""What a server reads of labels from the light that returns: the measured curve and its figures."""
