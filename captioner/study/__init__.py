"""Train, score and compare a grid of configurations and seeds: `captioner study`.

`study_file` and `plan` say which runs there are, `conduct` and `runner` run them in slots and
resume them, `results`, `table` and `plots` report them with intervals over seeds.
"""
