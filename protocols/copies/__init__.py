"""What the best copy of a network is worth: a table of measured thieves, and what they spend."""
