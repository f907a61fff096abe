"""Shared parts of defenses against poisons and backdoors."""
