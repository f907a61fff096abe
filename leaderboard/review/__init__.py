"""Submissions: packing, checking, acceptance."""
