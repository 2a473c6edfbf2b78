"""Drawing: what initialization would draw, recorded instead of executed."""
