"""From a checkpoint and photos to captions: the predictor, its generator, and the output files."""
