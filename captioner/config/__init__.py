"""Every setting of a run, as frozen dataclasses of plain values.

`schema` declares the settings with their defaults and help texts, `checks` refuses values that are
out of range or do not go together, and `parser` reads YAML files and dotted flags. Only
`captioner.build` and the parts of a run turn settings into objects.
"""
