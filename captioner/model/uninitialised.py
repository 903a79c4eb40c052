"""Modules without initial values, for weights that are loaded next."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

FILLS = frozenset(
    {
        *(init.normal_, init.uniform_, init.kaiming_uniform_, init.kaiming_normal_),
        *(init.xavier_uniform_, init.xavier_normal_, init.orthogonal_, init.trunc_normal_),
        *(Tensor.normal_, Tensor.uniform_),
    }
)
"""What fills a tensor at random."""


class _NoFilling(TorchFunctionMode):
    """Leaves tensors as they are where they would be filled at random."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in FILLS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def uninitialised() -> Iterator[None]:
    """Build modules on the meta device: sizes alone, no memory and no time.

    To fill even such a tensor at random, torch imports its compiler: more than a second.
    """
    with torch.device("meta"), _NoFilling():
        yield
