"""Tasks: what a system answers about one example, and which answers are wrong. Nothing here imports torch by itself."""
