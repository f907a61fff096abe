"""Published numbers and how they are imported."""
