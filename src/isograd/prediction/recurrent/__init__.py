"""Recurrent cells over time, in one call or step by step."""
