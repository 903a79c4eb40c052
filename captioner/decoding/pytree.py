"""Functions over states: nested tuples, lists, dicts, named tuples or dataclasses of tensors."""

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor

State = Any


def tree_map(function: Callable[[Tensor], Tensor], tree: State) -> State:
    """Apply `function` to each tensor and return the same structure. None stays None.

    Example:
        >>> import torch
        >>> tree_map(lambda x: x + 1, {"h": torch.tensor([1]), "layers": (torch.tensor([2]), None)})
        {'h': tensor([2]), 'layers': (tensor([3]), None)}

    Raises:
        TypeError: The state contains anything but tensors, None and these containers.
    """
    if isinstance(tree, Tensor):
        return function(tree)
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: tree_map(function, value) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        children = [tree_map(function, child) for child in tree]
        is_named = hasattr(tree, "_fields")
        return type(tree)(*children) if is_named else type(tree)(children)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = [field.name for field in dataclasses.fields(tree) if field.init]
        changes = {name: tree_map(function, getattr(tree, name)) for name in fields}
        return dataclasses.replace(tree, **changes)
    raise TypeError(f"state: {type(tree)} is not a tensor, None or a container of tensors")


def select_rows(tree: State, rows: Tensor) -> State:
    """Select rows, (M',) int64, along the first dimension of each tensor."""
    return tree_map(lambda tensor: tensor.index_select(0, rows), tree)


def leaves(tree: State) -> list[Tensor]:
    """Return all tensors in depth-first order.

    Example:
        >>> import torch
        >>> leaves({"h": torch.tensor([1]), "layers": (torch.tensor([2]), None)})
        [tensor([1]), tensor([2])]
    """
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    tree_map(keep, tree)
    return found
