"""Training with Lightning, logging to Weights & Biases."""
