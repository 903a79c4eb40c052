"""A grid of configurations x seeds, trained, scored and compared: `captioner study`."""
