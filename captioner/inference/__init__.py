"""From a checkpoint and photos to captions.

`predictor` is the way in: it reads photos ahead, encodes them, and lets `generator` search or draw
by a `strategy`. `result` is what it returns; `writers`, `draft` and `shards` turn results into
files that an interrupted run resumes. `split` captions a whole split for `evaluate`.
"""
