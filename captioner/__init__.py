"""captioner: CNN + RNN image captioning.

Importing this package imports nothing heavy, so that `captioner --help` answers at once.
"""

__version__ = "0.1.0"
