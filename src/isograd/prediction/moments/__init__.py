"""What is known of a tensor that is never computed, and what shapes, sums and products do to it."""
