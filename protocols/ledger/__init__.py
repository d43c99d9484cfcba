"""The ledger: what has leaked so far, what may still leak, and that nobody changed the count."""
