"""Published numbers and their import."""
