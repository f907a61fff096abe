"""Tasks: the predictions of a system about an example, and the errors that count. Imports no torch itself."""
