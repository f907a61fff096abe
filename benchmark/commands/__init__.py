"""One module per command of the command line, named as it is typed."""
