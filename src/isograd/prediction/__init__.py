"""Prediction: signal and gradient of a network from its architecture alone, before training."""
