"""Losses, vectors, step rules and settings that attacks of all families share."""
