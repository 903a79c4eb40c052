"""Evaluation of caption files: scores with intervals and recipes, comparisons and reports."""
