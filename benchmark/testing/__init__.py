"""Tests for plugin authors: the contract suite, toy models with known answers, planted faults."""
