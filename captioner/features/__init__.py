"""Features of a frozen encoder, computed once and stored on disk.

`prepare` computes them, `writer` and `store` write and read the memory-mapped file, `header` says
what its rows are, `journal` which of them can be trusted, `find` chooses the store that belongs to
a data set, and `coverage` says what the vocabulary covers.
"""
