"""Networks as data: an encoder from an untrusted file is a program of listed operations.

`operations` is the closed table of what a program may name; `shapes` and the rules in
`elementwise`, `places` and `windows` bound its work and memory before anything runs; `network` runs
it. No text of a file is ever executed.
"""
