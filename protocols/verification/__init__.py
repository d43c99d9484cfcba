"""What the returned light proves: evidence, checks, the verdict; and what the client checks."""
