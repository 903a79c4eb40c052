"""HTML pages that open from disk: a template beside the code that fills it."""
