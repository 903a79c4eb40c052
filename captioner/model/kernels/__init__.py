"""Fast implementations; each has a plain equivalent that the tests compare it with.

Faster products on CPUs, back-propagation through time written out, a cache of word products, and a
loss that never holds all logits. Without this package the program is slower, and its results are
the same up to rounding.
"""
