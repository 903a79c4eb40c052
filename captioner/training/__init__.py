"""Training with Lightning, logging to Weights & Biases; the only package that imports either.

`run` conducts a run from the `parts` that a configuration describes. `lightning_module` makes the
steps, `objectives` and `self_critical` say what they minimise, `checkpoints` writes what a killed
run resumes from, to the bit.
"""
