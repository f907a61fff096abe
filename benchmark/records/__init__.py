"""Records, outcomes and the store of results. Reading records imports no torch."""
