"""From names and bytes to pixels: find photos, decode them safely, resize them for the encoder.

`inputs` turns paths, folders, globs, lists and tars into a stream of `source` objects; `decode`
reads one under the budgets of `limits`, by its format (`jpeg`, `png`, `tiff`, …); `transform` makes
it fit for the encoder; `readers` decodes ahead in threads or processes.
"""
