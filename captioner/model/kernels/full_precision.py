"""Full single precision on a GPU, where a result must not depend on what it was computed with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def whole_float32() -> Iterator[None]:
    """CuDNN's convolutions and recurrent kernels in all of float32's 24 bits, not in TF32's 11.

    TF32 is torch's default for both. It moves a result in the third digit, and otherwise in another
    size of batch: the captions of some photos then depend on which others came with them, and
    features of a GPU are not those of a CPU. The switch is the process', so it is for one thread.
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
