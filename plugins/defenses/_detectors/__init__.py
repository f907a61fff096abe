"""Shared by the detectors: what they attach to a classifier, the features that they read, and how scores combine."""
