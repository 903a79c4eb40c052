"""Features of a frozen encoder, computed once and kept on disk.

`store` holds them in a memory-mapped file, `journal` says which rows can be trusted, `find` chooses
the store that belongs to a data set, and `prepare` fills it.
"""
