"""Models whose exact robustness is known: the yardsticks of attacks and certifiers."""
