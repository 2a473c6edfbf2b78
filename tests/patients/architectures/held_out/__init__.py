"""Architectures that no rule of the prediction was developed on: they keep it honest."""
