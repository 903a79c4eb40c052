"""Full float32 precision on a GPU, for results that must not depend on the batch size."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def whole_float32() -> Iterator[None]:
    """Make cuDNN's convolutions and recurrent kernels use float32's 24 bits instead of TF32's 11.

    torch uses TF32 for both by default. TF32 changes results in the third digit, and differently
    for each batch size: captions of some photos then depend on the other photos of their batch, and
    features on a GPU differ from those on a CPU. The switch applies to the whole process, so use it
    from one thread only.
    """
    cudnn: Any = torch.backends.cudnn
    kernels = (cudnn.conv, cudnn.rnn)
    before = [kernel.fp32_precision for kernel in kernels]
    for kernel in kernels:
        kernel.fp32_precision = "ieee"
    try:
        yield
    finally:
        for kernel, precision in zip(kernels, before, strict=True):
            kernel.fp32_precision = precision
