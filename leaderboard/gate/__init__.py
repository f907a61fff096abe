"""The gate of a release: goals for robust accuracy, decided on intervals, and the documents that say what was
decided.
"""
