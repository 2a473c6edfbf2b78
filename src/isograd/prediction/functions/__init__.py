"""Functions of nearly Gaussian tensors: their laws, their moments, and what few weights change."""
