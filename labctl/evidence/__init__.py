"""Evidence of sessions for a security team: events, signed statements, and how they are checked."""
