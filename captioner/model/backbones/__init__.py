"""Pretrained networks as encoders, one module per library; `cut` removes the classifier of any."""
