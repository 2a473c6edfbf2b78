"""Live: looks at a training that somebody else runs, from hooks that never disturb it."""
