"""Shared parts of the detectors: fitted state attached to a classifier, hidden features, combined scores."""
