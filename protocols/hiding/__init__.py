"""What hides the client's input from whoever reads the returned light."""
