"""Search for the best caption: beam search, sampling, constraints and ensembles.

This room knows no model. It is given the ids that start each caption, a state, and a ``step``
that takes both one word further; see :mod:`captioner.decoding.beam_search` for an example.
"""
