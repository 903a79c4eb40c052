"""States are nested tuples, lists, dicts, named tuples or dataclasses of tensors (and None)."""

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor

State = Any


def tree_map(function: Callable[[Tensor], Tensor], tree: State) -> State:
    """The same structure with ``function`` applied to each tensor.

    Example:
        >>> import torch
        >>> tree_map(lambda x: x + 1, {"h": torch.tensor([1]), "layers": (torch.tensor([2]), None)})
        {'h': tensor([2]), 'layers': (tensor([3]), None)}

    Raises:
        TypeError: The state holds something that is neither a tensor nor such a container.
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
    raise TypeError(f"a state is made of tensors, None and containers of them, not {type(tree)}")


def select_rows(tree: State, rows: Tensor) -> State:
    """The given rows, (M',) int64, of each tensor's first dimension."""
    return tree_map(lambda tensor: tensor.index_select(0, rows), tree)


def leaves(tree: State) -> list[Tensor]:
    """All tensors, in the order in which they stand.

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
