"""What hides the client's input from a reader of the returned light."""
