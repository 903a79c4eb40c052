"""Scores of captions against references: BLEU, ROUGE-L, CIDEr, with intervals and a recipe."""
