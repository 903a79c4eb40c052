"""Photos: find them by name, decode them safely and resize them for the encoder.

`inputs` expands paths, folders, globs, lists and tars to a stream of `source` objects. `decode`
reads one within the budgets of `limits`, by its format (`jpeg`, `png`, `tiff`, …). `transform`
preprocesses it for the encoder. `readers` decodes ahead in threads or processes. `regions` reads a
detector's features of photos.
"""
