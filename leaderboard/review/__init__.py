"""Submissions: packing, checking, admitting."""
