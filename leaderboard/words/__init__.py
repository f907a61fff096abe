"""How names and numbers are put into words."""
