"""The networks: CNN encoder, recurrent decoder, and the two joined.

`encoder` turns photos into features by a network of `backbones`; `decoder` turns features and words
into the next word by the layers of `cells`, with `attention` on request. `network` runs encoders
that come as plain data, and `kernels` holds what exists for speed only. Nothing here knows a
configuration, a file or a caption's text.
"""
