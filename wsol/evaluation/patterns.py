"""What the neighbours that come before a pixel say of it, for each of 256 patterns of them.

Bit i of a pattern says that neighbour i comes before the pixel, clockwise from the upper left one.
"""

import numpy as np
from numpy.typing import NDArray


def _pieces(before: int, diagonal: bool) -> list[int]:
    """The middle one of each piece that the neighbours before a pixel form: it leads uphill.

    With `diagonal`, corners connect like sides do; without, they only connect two sides.
    """
    there = [bool(before >> i & 1) for i in range(8)]
    piece = list(range(8))
    for i in range(8):
        for j in (i + 1, i + 2)[: 1 + (diagonal and i % 2)]:
            if there[i] and there[j % 8]:
                piece = [piece[i] if k == piece[j % 8] else k for k in piece]
    middles = {}
    for own in {piece[i] for i in range(8) if there[i] and (diagonal or i % 2)}:
        run = [i for i in range(8) if there[i] and piece[i] == own and (diagonal or i % 2)]
        first = next((i for i in run if {(i - 1) % 8, (i - 2) % 8}.isdisjoint(run)), 0)
        middles[own] = sorted(run, key=lambda i: (i - first) % 8)[len(run) // 2]
    return list(middles.values())


def _sticks_out(before: int, diagonal: bool) -> bool:
    """Whether on some side of a pixel, and in its line along it, nothing comes before it."""
    corners = 0 if diagonal else 0b01010101
    sides = 0b11000001, 0b00000111, 0b00011100, 0b01110000  # W N E S, each with its corners
    lines = 0b00100010, 0b10001000, 0b00100010, 0b10001000  # N and S, or W and E
    return any(before & ~corners & (a | b) == 0 for a, b in zip(sides, lines, strict=True))


def _tables() -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """By the neighbours that come before a pixel in bright order: whether it is an item, bit 0 of
    bright components, bit 1 of dark ones; for both a neighbour of each piece, -1 after the last.
    """
    kinds, joins = np.zeros(256, np.uint8), np.full((2, 256, 5), -1, np.int8)
    for pattern in range(256):
        for dark, before in enumerate((pattern, ~pattern & 255)):
            pieces = _pieces(before, diagonal=not dark)
            item = len(pieces) != 1 or _sticks_out(before, diagonal=not dark)
            kinds[pattern] |= item << dark
            joins[dark, pattern, : len(pieces)] = pieces
    return kinds, joins


KINDS, JOINS = _tables()
