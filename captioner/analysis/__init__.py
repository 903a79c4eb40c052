"""Analyse trained networks and data sets: gradients through time, word embeddings, leakage.

These modules only inspect and report. They never train and never score.
"""
