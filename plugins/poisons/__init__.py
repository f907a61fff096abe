"""Poisoning attacks on the training data: one method, one paper, one file."""
