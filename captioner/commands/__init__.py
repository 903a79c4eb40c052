"""One file per command: its flags, and what it runs.

`parser` is the `argparse` that every command uses; `search_flags` and `predictor_flags` are the
flags that `caption` and `evaluate` share. A command imports torch only after its flags are parsed,
so that `--help` and a mistyped flag answer at once.
"""
