"""Search for the best caption: beam search, sampling, constraints and ensembles.

This package does not depend on any model. A search takes start ids, a state, and a `step` function
that advances both by one word. `captioner.decoding.beam_search` has a complete example.
"""
