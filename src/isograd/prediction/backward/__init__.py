"""Gradients on their way back: what they know of the tensors that they have passed."""
