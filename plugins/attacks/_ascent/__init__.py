"""Ascent on a loss inside a ball: APGD, transfer variants, universal perturbations."""
