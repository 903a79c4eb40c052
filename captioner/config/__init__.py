"""Every setting of a run: `schema` declares and checks it, `parser` reads YAML files and flags."""
