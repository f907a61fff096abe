"""The configuration files of the harness, as package data."""
