"""Reading cells from disk."""
