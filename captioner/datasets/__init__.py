"""From annotation files to records and batches; one module per format, one way in: `load`.

A `Record` is the only in-memory form of a captioned photo. Nothing here reads pixels.
"""
