"""The first-party plugins, one method a file; the entry points in pyproject.toml say which there are."""
