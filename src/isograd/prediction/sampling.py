"""Sampling: what an operation without a rule does to fields, found by running it."""
