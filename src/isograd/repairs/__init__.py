"""Repairs: a change is tried, proved on the user's own data, and told as code."""
