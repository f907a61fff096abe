"""Names and numbers in words."""
