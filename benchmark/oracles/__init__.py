"""Models with exactly known robustness, to measure attacks and certifiers against."""
