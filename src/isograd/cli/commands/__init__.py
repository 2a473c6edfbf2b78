"""One file, one command; each defines `command`, which returns its exit code."""
