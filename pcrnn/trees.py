"""Nested tuples and NamedTuples of tensors (carried state, traces) as flat dictionaries and back, and in place.

A tree is a tensor or a (named) tuple of trees: a stack's state, a rule's carry.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import _register_namedtuple

Kind = TypeVar("Kind", bound=type)


def portable(kind: Kind) -> Kind:
    """Class decorator: a NamedTuple of trees that `torch.export.save` and `torch.load(weights_only=True)` take."""
    _register_namedtuple(kind, serialized_type_name=f"{kind.__module__}.{kind.__name__}")
    torch.serialization.add_safe_globals([kind])
    return kind


def flatten(tree: Any, prefix: str) -> dict[str, Tensor]:
    """The tensors of a tree by dotted name, as in `state.layers.0.cell`."""
    if isinstance(tree, Tensor):
        return {prefix: tree}
    names = getattr(tree, "_fields", range(len(tree)))
    flat: dict[str, Tensor] = {}
    for name, part in zip(names, tree, strict=True):
        flat |= flatten(part, f"{prefix}.{name}")
    return flat


def leaves(tree: Any) -> list[Tensor]:
    """The tensors of a tree, in order."""
    return [tree] if isinstance(tree, Tensor) else [leaf for part in tree for leaf in leaves(part)]


def unflatten(template: Any, flat: Mapping[str, Tensor], prefix: str) -> Any:
    """The tree with the structure and devices of `template` and the tensors of `flat`; undoes `flatten`."""
    if isinstance(template, Tensor):
        return flat[prefix].to(template.device, copy=True)
    names = getattr(template, "_fields", range(len(template)))
    children = zip(names, template, strict=True)
    parts = [unflatten(part, flat, f"{prefix}.{name}") for name, part in children]
    return type(template)(*parts) if hasattr(template, "_fields") else tuple(parts)


def copy_into(target: Any, source: Any) -> None:
    """Copy every tensor of `source` into its counterpart in `target`, which stays where it is."""
    mine, theirs = leaves(target), leaves(source)
    if mine:
        torch._foreach_copy_(mine, theirs)  # pyright: ignore[reportPrivateImportUsage]
