"""Boxes of all contours of all binarizations of an 8-bit map, by one sweep of a component tree.

The binary maps ``levels >= v`` for v = 255 ... 1 are nested: from one to the next, pixels are only
added, so components only appear, grow and merge. One sweep with union-find over the pixels in order
of their grey level (a *max-tree*, Salembier et al., IEEE TIP 1998; Berger et al., ICIP 2007)
therefore sees every component of every binary map. What OpenCV's `findContours` and `contourArea`
say of a component is accumulated pixel by pixel:

* the box of its outer contour is its bounding box;
* its polygon area, through the centres of its border pixels, is the sum over all 2 x 2 windows of
  1 where four pixels belong to it and 1/2 where three do, plus the area of its holes;
* its Euler number, a sum over the same windows (Gray, IEEE Trans. Computers 1971), is 1 if it has
  no holes.

Holes are components of the dark pixels that do not reach the border, found by the same sweep
upwards; `findContours` follows the bright pixels around them, so the box of a hole's contour is
one pixel wider on each side. Bright components are connected by 8 neighbours, dark ones by 4.

What a pixel changes when it joins depends on which of its 8 neighbours are there: 256 patterns,
whose answers are tables (`wsol.evaluation.patterns`). Most pixels of a smooth map touch one
component and cost one look-up.

All functions that :func:`components` calls are in this file, because numba's cache on disk only
watches the file of the function that is called. Compiling takes about 8 seconds on first use.

A pixel's *place* is ``(y << shift) + x`` in a map with a frame of one pixel around it.
Shapes: H W map, M components.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit

from wsol.evaluation.patterns import CHANGE, JOINS_4, JOINS_8

kernel = njit(cache=True, nogil=True)
inlined = partial(njit, cache=True, nogil=True, inline="always")  # for what is called per pixel

# Columns of a component: corners of its contour (both inclusive), twice its polygon area without
# its holes, whether it has any, and the lowest and highest v at which it is there as it is.
X0, Y0, X1, Y1, AREA2, HOLED, LOW, HIGH = range(8)
EULER4, ROW, STAMP = 5, 6, 7  # columns of a component in the making, after AREA2


@kernel
def _stride_shift(width):
    """Rows and their frame start every 2 ** shift places: x and y then cost no division."""
    shift = 2
    while (1 << shift) < width + 2:
        shift += 1
    return shift


@kernel
def _padded(levels, shift):
    """The map inside a frame of -1, which is darker than everything, rows 2 ** shift apart."""
    H, W = levels.shape
    grey = np.full((H + 2, 1 << shift), -1, np.int16)
    for y in range(H):  # in numba loops compile ten times faster than slices, and run as fast
        for x in range(W):
            grey[y + 1, x + 1] = levels[y, x]
    return grey


@kernel
def _sorted_pixels(grey, H, W, shift):
    """Places of the pixels, dark to bright, then in reading order; (257,) where each level ends."""
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
def _neighbours_before(grey, H, W, bright):
    """Which neighbours are there already when a pixel joins, as bits in the order of `RING`."""
    out = np.empty(grey.shape, np.uint8)
    sign = 1 if bright else -1
    for y in range(1, H + 1):
        above, here, below = grey[y - 1], grey[y], grey[y + 1]
        for x in range(1, W + 1):
            g = sign * here[x]
            out[y, x] = (
                (sign * above[x - 1] >= g) | (sign * above[x] >= g) << 1
                | (sign * above[x + 1] >= g) << 2 | (sign * here[x + 1] > g) << 3
                | (sign * below[x + 1] > g) << 4 | (sign * below[x] > g) << 5
                | (sign * below[x - 1] > g) << 6 | (sign * here[x - 1] >= g) << 7
            )  # fmt: skip
    return out


@kernel
def _find(parent, c):
    while parent[c] != c:
        parent[c] = parent[parent[c]]
        c = parent[c]
    return c


@kernel
def _touch(c, v, end, state, changed, n, out):
    """Note that component c changes at level v, and close its row, once a level; the new count."""
    if state[c, STAMP] != v:
        state[c, STAMP] = v
        if state[c, ROW] >= 0:
            out[state[c, ROW], end] = v + 1 if end == LOW else v - 1
            state[c, ROW] = -1
        changed[n] = c
        n += 1
    return n


@kernel
def _merge(root, c, parent, state):
    """Merge two components; the older one stays."""
    if c < root:
        root, c = c, root
    parent[c] = root
    for i in range(2):
        state[root, i] = min(state[root, i], state[c, i])
        state[root, i + 2] = max(state[root, i + 2], state[c, i + 2])
    state[root, AREA2] += state[c, AREA2]
    state[root, EULER4] += state[c, EULER4]
    return root


@kernel
def _write(changed, n, v, parent, state, out, M, bright):
    """A new row for each component that changed at level v and was not merged; the new count."""
    margin = 0 if bright else 1
    for c in changed[:n]:
        if parent[c] != c or (c == 0 and not bright):
            continue
        state[c, ROW] = M
        out[M, X0], out[M, Y0] = state[c, X0] - margin, state[c, Y0] - margin
        out[M, X1], out[M, Y1] = state[c, X1] + margin, state[c, Y1] + margin
        out[M, AREA2], out[M, HOLED] = state[c, AREA2], state[c, EULER4] != 4
        out[M, LOW], out[M, HIGH] = (1, v) if bright else (v, 255)
        M += 1
    return M


@inlined
def _grow(c, pattern, x, y, state, bright):
    """A pixel joins component c: its box, and of a bright one area and Euler number."""
    if x < state[c, X0]:
        state[c, X0] = x
    if x > state[c, X1]:
        state[c, X1] = x
    if y < state[c, Y0]:
        state[c, Y0] = y
    if y > state[c, Y1]:
        state[c, Y1] = y
    if bright:
        state[c, AREA2] += CHANGE[pattern, 0]
        state[c, EULER4] += CHANGE[pattern, 1]


@kernel
def _begin(c, parent, state):
    parent[c], state[c, STAMP], state[c, ROW] = c, 0, -1
    state[c, X0], state[c, Y0] = 1 << 30, 1 << 30
    state[c, X1], state[c, Y1] = -1, -1
    state[c, AREA2], state[c, EULER4] = 0, 0


@kernel
def _join_all(p, joins, ring, label, v, end, parent, state, changed, n, out):
    """The component of a pixel that touches several pieces: all of them; and the new count."""
    root = _find(parent, label[p + ring[joins[0]]])
    n = _touch(root, v, end, state, changed, n, out)
    j = 1
    while joins[j] >= 0:
        c = _find(parent, label[p + ring[joins[j]]])
        if c != root:
            n = _touch(c, v, end, state, changed, n, out)
            root = _merge(root, c, parent, state)
        j += 1
    return root, n


@kernel
def _only_neighbour(joins, ring):
    """Per pattern, the way to the one neighbour to join; 0 where there are none or several."""
    way = np.zeros(256, np.int64)
    for pattern in range(256):
        if joins[pattern, 0] >= 0 and joins[pattern, 1] < 0:
            way[pattern] = ring[joins[pattern, 0]]
    return way


@kernel
def _sweep(pixels, ends, patterns, bright):
    """Components as the grey falls (`bright`), or the holes as it rises: (M, 8).

    Of holes, the corners are those of the contour around them; area and holes are not worked out.
    """
    S, flat = patterns.shape[1], patterns.ravel()
    mask, shift = S - 1, _stride_shift(S - 2)
    ring = np.array([-S - 1, -S, -S + 1, 1, S + 1, S, S - 1, -1], np.int64)
    joins = JOINS_8 if bright else JOINS_4
    only = _only_neighbour(joins, ring)
    # The frame around the map is dark component 0, which is never written.
    label = np.zeros(patterns.size, np.int32)
    N = len(pixels) + 1
    parent, changed = np.empty(N, np.int32), np.empty(N, np.int32)
    state, out = np.empty((N, 8), np.int32), np.empty((N, 8), np.int32)
    _begin(0, parent, state)
    M, C, end = 0, 0 if bright else 1, LOW if bright else HIGH
    for step in range(255):
        v, n = 255 - step if bright else step + 1, 0
        grey = v if bright else step
        for i in range(ends[grey], ends[grey + 1]):
            # Unsigned places spare the check for negative ones, a fifth of the time.
            p = np.uint64(pixels[i])
            pattern = np.uint64(flat[p])
            way = only[pattern]
            if way != 0:  # nearly always
                root = np.uint64(label[p + np.uint64(way)])
                while parent[root] != root:
                    root = np.uint64(parent[root])
            elif joins[pattern, 0] < 0:
                root, C = np.uint64(C), C + 1
                _begin(root, parent, state)
            else:
                joined, n = _join_all(
                    np.int64(p), joins[pattern], ring, label, v, end, parent, state, changed, n, out
                )
                root = np.uint64(joined)
            label[p] = root
            if root == 0 and not bright:
                continue  # nobody asks for the box of the outside
            if state[root, STAMP] != v:
                n = _touch(root, v, end, state, changed, n, out)
            x, y = np.int32(p & np.uint64(mask)) - 1, np.int32(p >> np.uint64(shift)) - 1
            _grow(root, pattern, x, y, state, bright)
        M = _write(changed, n, v, parent, state, out, M, bright)
    return out[:M]


@kernel
def components(levels):
    """Bright components and holes of ``levels >= v`` for v of 1 to 255, for levels (H, W) uint8.

    Both are (M, 8), with the columns above. Corners are inclusive; those of a hole are the corners
    of the contour around it.
    """
    H, W = levels.shape
    shift = _stride_shift(W)
    grey = _padded(levels, shift)
    pixels, ends = _sorted_pixels(grey, H, W, shift)
    bright = _sweep(pixels, ends, _neighbours_before(grey, H, W, True), True)
    holed = 0
    for i in range(len(bright)):
        holed += bright[i, HOLED]
    if holed == 0:
        return bright, bright[:0]
    return bright, _sweep(pixels, ends, _neighbours_before(grey, H, W, False), False)
