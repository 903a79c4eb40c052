"""Data sets: annotation files become records and batches. One module per format; `load` reads all.

A `Record` is the in-memory form of a captioned photo. Nothing in this package reads pixels.
"""
