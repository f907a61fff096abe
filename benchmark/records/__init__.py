"""Records, outcomes and the store: what a run leaves behind. Reading records imports no torch."""
