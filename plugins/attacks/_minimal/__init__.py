"""Searches for the smallest perturbation."""
