"""Stages of a run, in the order of :mod:`benchmark.run`: load, poison, fit, attack, judge, certify, measure."""
