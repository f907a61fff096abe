"""What plugin authors test with: the contract suite, toy models with known answers, planted faults."""
