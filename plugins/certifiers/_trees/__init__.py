"""Tree ensembles: their leaves as boxes, how they are read, and the search for the nearest adversarial example."""
