"""The pixels of a map in the order of their grey, and which neighbours precede each of them.

A pixel's *place* is ``(y << shift) + x`` in a map with a frame of one pixel around it.

Shapes: H W map.
"""

import numpy as np

from wsol.kernels import kernel


@kernel
def stride_shift(width):
    """Rows and their frame start every 2 ** shift places: x and y then cost no division."""
    shift = 2
    while (1 << shift) < width + 2:
        shift += 1
    return shift


@kernel
def padded(levels, shift):
    """The map inside a frame of -1, which is darker than everything, rows 2 ** shift apart."""
    H, W = levels.shape
    grey = np.full((H + 2, 1 << shift), -1, np.int16)
    for y in range(H):  # in numba loops compile ten times faster than slices, and run as fast
        for x in range(W):
            grey[y + 1, x + 1] = levels[y, x]
    return grey


@kernel
def sorted_pixels(grey, H, W, shift):
    """Places (y << shift) + x in the frame, dark to bright, then in reading order; (257,) ends."""
    ends = np.zeros(257, np.int64)
    for y in range(1, H + 1):
        for x in range(1, W + 1):
            ends[grey[y, x] + 1] += 1
    for v in range(256):
        ends[v + 1] += ends[v]
    nexts = ends.copy()
    pixels = np.empty(H * W, np.int32)
    for y in range(1, H + 1):
        for x in range(1, W + 1):
            v = grey[y, x]
            pixels[nexts[v]] = (y << shift) + x
            nexts[v] += 1
    return pixels, ends


@kernel
def neighbours_before(grey, H, W, bright):
    """Which neighbours are there already when a pixel joins, as bits in the order of `RING`."""
    out = np.empty(grey.shape, np.uint8)
    for y in range(1, H + 1):
        above, here, below = grey[y - 1], grey[y], grey[y + 1]
        for x in range(1, W + 1):
            g = here[x]
            if bright:
                out[y, x] = (
                    (above[x - 1] >= g) | (above[x] >= g) << 1 | (above[x + 1] >= g) << 2
                    | (here[x + 1] > g) << 3 | (below[x + 1] > g) << 4 | (below[x] > g) << 5
                    | (below[x - 1] > g) << 6 | (here[x - 1] >= g) << 7
                )  # fmt: skip
            else:
                out[y, x] = (
                    (above[x - 1] <= g) | (above[x] <= g) << 1 | (above[x + 1] <= g) << 2
                    | (here[x + 1] < g) << 3 | (below[x + 1] < g) << 4 | (below[x] < g) << 5
                    | (below[x - 1] < g) << 6 | (here[x - 1] <= g) << 7
                )  # fmt: skip
    return out
