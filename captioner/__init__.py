"""captioner: CNN + RNN image captioning.

Nothing heavy is imported here, so that ``captioner --help`` answers at once.
"""

__version__ = "0.1.0"
