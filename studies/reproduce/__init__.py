"""The published figures again: theirs as published, theirs as it should be, and ours."""
