"""Display names and number formats."""
