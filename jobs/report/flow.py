"""Flows: what came in, what became of it, in one unit; nothing is lost between two layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """A place in a flow: its name in words, its layer from 0, and the name of its colour in the style sheet."""

    name: str
    layer: int
    colour: str


@dataclass(frozen=True)
class Flow:
    """Amounts between nodes, from one layer to a later one."""

    nodes: Sequence[Node]
    links: Mapping[tuple[str, str], int]

    def into(self, name: str) -> int:
        """What comes to a node."""
        return sum(amount for (_, to), amount in self.links.items() if to == name)

    def out_of(self, name: str) -> int:
        """What leaves a node."""
        return sum(amount for (source, _), amount in self.links.items() if source == name)

    def through(self, name: str) -> int:
        """What comes to a node, or leaves it where nothing comes."""
        return self.into(name) or self.out_of(name)

    @property
    def layers(self) -> list[list[Node]]:
        """The nodes with anything, by layer, in their order."""
        last = max((node.layer for node in self.nodes), default=-1)
        return [[n for n in self.nodes if n.layer == layer and self.through(n.name)] for layer in range(last + 1)]

    @property
    def unbalanced(self) -> list[str]:
        """Nodes that more, or less, leaves than comes to, though both does."""
        both = [n.name for n in self.nodes if self.into(n.name) and self.out_of(n.name)]
        return [name for name in both if self.into(name) != self.out_of(name)]
