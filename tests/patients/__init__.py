"""Real networks that the tests examine: every one of them runs, trains and is seeded."""
