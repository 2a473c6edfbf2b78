"""Integrations: watching inside of other libraries' training loops, and of whole scripts."""
