"""Attacks by queries: scores, labels, estimates."""
