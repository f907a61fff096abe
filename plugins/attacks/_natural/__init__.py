"""Natural variations and common corruptions."""
