"""No cell of the report tells of so few subscriptions that it could single a person out.

A cell is small if it holds fewer than ``LEAST_SUBSCRIPTIONS`` and is not empty. Small cells are put together with others, never
left out of a sum: what is left out could be worked out from the sum and the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

Kind = tuple[str, ...]
Networks = tuple[str, ...]

LEAST_SUBSCRIPTIONS = 11
"""What is told of fewer subscriptions is put together with others, or withheld.

Insee publishes nothing of 1 to 10 households from tax sources, and joins squares of a grid until they hold 11 (Insee, gridded
income data, insee.fr/fr/statistiques/2520034, known through secondary sources only): a usual threshold for data of persons that
were not collected for statistics, as here. Of enterprises it asks for 3 (Insee, Manuel de protection des tableaux, Règles).
"""


def is_small(subscriptions: int, least: int = LEAST_SUBSCRIPTIONS) -> bool:
    """The cell would tell of a few subscriptions; an empty one tells of nobody."""
    return 0 < subscriptions < least


def classes_together(counts: Sequence[Sequence[int]], least: int = LEAST_SUBSCRIPTIONS, width: int = 1) -> list[tuple[int, int]]:
    """Neighbouring classes put together until none is small, nor any part of one that could be told apart by another table.

    Args:
        counts: of each class in order, its subscriptions by the groups that another table of the same subscriptions shows.
            Where that has one group, each class has one number.
        least: subscriptions of the smallest cell that may be shown.
        width: classes that are put together in any case, so that there are not too many.

    Returns:
        Half-open ranges of classes, which cover all of them; none if all of them together hold a small cell.

    >>> classes_together([[3], [20], [0], [15], [4]])
    [(0, 2), (2, 5)]
    """
    # Of all ways to part them the one with most groups: to close each as soon as it may be shown can leave a rest that may not.
    ways: list[list[tuple[int, int]] | None] = [[], *[None] * len(counts)]
    for end in range(1, len(counts) + 1):
        for begin in range(end):
            before, is_wide = ways[begin], end - begin >= width or end - begin == len(counts)
            has_more = before is not None and len(before) >= len(ways[end] or ())
            if before is not None and has_more and is_wide and _may_be_shown(counts[begin:end], least):
                ways[end] = [*before, (begin, end)]
    return ways[-1] or []


def _may_be_shown(counts: Sequence[Sequence[int]], least: int) -> bool:
    groups = [sum(group) for group in zip(*counts, strict=True)]
    return sum(groups) >= least and not any(is_small(group, least) for group in groups)


def kinds_together(
    subscriptions: Mapping[Kind, int], together: Callable[[Collection[Kind]], int], least: int = LEAST_SUBSCRIPTIONS
) -> set[Kind]:
    """Kinds to be shown as one, so that neither they nor any other is small; none if no kind is.

    Args:
        subscriptions: subscriptions of each kind; one may be of several kinds.
        together: how many there are of any of some kinds.
        least: subscriptions of the smallest cell that may be shown.
    """
    joined = {kind for kind, count in subscriptions.items() if is_small(count, least)}
    while joined and together(joined) < least:
        others = [kind for kind in subscriptions if kind not in joined]
        if not others:
            break
        joined.add(min(others, key=lambda kind: (subscriptions[kind], kind)))
    return joined


def named(networks: Networks) -> str:
    """Networks that are told of apart or together, in words."""
    return " and ".join(networks)


def tone(networks: Networks) -> str:
    """The colour of a network that is told of apart; together they have that of all that was accepted."""
    return networks[0] if len(networks) == 1 else "accepted"


def networks_shown(subscriptions: Mapping[str, int], least: int = LEAST_SUBSCRIPTIONS) -> list[Networks]:
    """Networks that are told of apart, or together where one of them is small; none if they are small together.

    >>> networks_shown({"fixed": 700, "mobile": 1300}), networks_shown({"fixed": 3, "mobile": 1300})
    ([('fixed',), ('mobile',)], [('fixed', 'mobile')])
    """
    there = sorted(network for network, count in subscriptions.items() if count)
    if sum(subscriptions.values()) < least:
        return []
    if any(is_small(subscriptions[network], least) for network in there):
        return [tuple(there)]
    return [(network,) for network in there]
