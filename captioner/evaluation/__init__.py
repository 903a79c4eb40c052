"""Evaluation of caption files: scores with intervals and recipes, comparisons and reports.

`result_files` and `references` read captions, `scores` runs the metrics, `significance` and
`comparison` say whether two systems differ, `report` holds all of it for people and programs. Every
number travels with its `recipe`.
"""
