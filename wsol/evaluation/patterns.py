"""What a pixel changes when it joins a binary map, for each of 256 patterns of its neighbours.

Bit i of a pattern says that neighbour i is there already, clockwise from the upper left one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def _window(beside: bool, above: bool, across: bool) -> tuple[int, int]:
    """Change of (2 area, 4 Euler number) in a 2 x 2 window as a pixel joins it."""
    others = beside + above + across
    if others == 1:
        return 0, -3 if across else -1
    if others == 2:
        return 1, -1 if across else 1
    return others // 3, 1


def _arcs(present: list[bool], diagonal: bool) -> list[int]:
    """One neighbour of each connected piece of the ring that the pixel is connected to.

    With `diagonal`, corners connect like sides do (8 neighbours); without, a corner only connects
    the two sides beside it (4 neighbours).
    """
    piece = list(range(8))
    for i in range(8):
        j, k = (i + 1) % 8, (i + 2) % 8
        if present[i] and present[j]:
            piece = [piece[i] if m == piece[j] else m for m in piece]
        if diagonal and i % 2 and present[i] and present[k]:  # two sides meet at their corner
            piece = [piece[i] if m == piece[k] else m for m in piece]
    touching = [i for i in range(8) if present[i] and (diagonal or i % 2)]
    return [i for n, i in enumerate(touching) if piece[i] not in [piece[m] for m in touching[:n]]]


def _tables() -> tuple[NDArray[np.int8], ...]:
    """Per pattern of neighbours: change of area and Euler number, neighbours to join (8 or 4)."""
    change = np.zeros((256, 2), np.int8)
    joins = np.full((2, 256, 5), -1, np.int8)
    for pattern in range(256):
        present = [bool(pattern >> i & 1) for i in range(8)]
        for corner in (0, 2, 4, 6):
            sides = present[corner - 1], present[(corner + 1) % 8]
            change[pattern] += np.array(_window(*sides, present[corner]), np.int8)
        for row, diagonal in enumerate((True, False)):
            arcs = _arcs(present, diagonal)
            joins[row, pattern, : len(arcs)] = arcs
    return change, joins[0], joins[1]


CHANGE, JOINS_8, JOINS_4 = _tables()
