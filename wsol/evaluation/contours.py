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
whose answers are tables. Most pixels of a smooth map touch one component and cost one look-up.

All compiled functions are in this file, because numba's cache on disk only knows the file of the
function that is called. Compiling takes about 8 seconds on first use.

A pixel's *place* is ``(y << shift) + x`` in a map with a frame of one pixel around it.
Shapes: H W map, M components, G ground-truth boxes.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

kernel = njit(cache=True, nogil=True)
inlined = partial(njit, cache=True, nogil=True, inline="always")  # for what is called per pixel

RING = ((-1, -1), (0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0))  # (dx, dy), clockwise

# Columns of a component: corners of its contour (both inclusive), twice its polygon area without
# its holes, whether it has any, and the lowest and highest v at which it is there as it is.
X0, Y0, X1, Y1, AREA2, HOLED, LOW, HIGH = range(8)
EULER4, ROW, STAMP = 5, 6, 7  # columns of a component in the making, after AREA2


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
    """A component of no pixel yet."""
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
                found, n = _join_all(
                    np.int64(p), joins[pattern], ring, label, v, end, parent, state, changed, n, out
                )
                root = np.uint64(found)
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
def _components(levels):
    """Bright components and holes of ``levels >= v`` for all v of 1 to 255, each (M, 8)."""
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


@kernel
def _largest_per_level(bright):
    """Row of the component of largest polygon area at each v, (256,), -1 where there is none.

    The second answer, (256,), tells where that is not certain: the areas of two components are
    equal, or holes, which count for the polygon around them, might make another one the largest.
    """
    best = np.full(256, -1, np.int32)  # of largest known area
    first, second = np.full(256, -1, np.int32), np.full(256, -1, np.int32)  # largest possible areas
    holder = np.full(256, -1, np.int32)  # whose possible area is the first
    for i in range(len(bright)):
        row = bright[i]
        bound = row[AREA2]
        if row[HOLED]:
            bound = 2 * (row[X1] - row[X0]) * (row[Y1] - row[Y0])
        for v in range(row[LOW], row[HIGH] + 1):
            if best[v] < 0 or row[AREA2] > bright[best[v], AREA2]:
                best[v] = i
            if bound > first[v]:
                first[v], second[v], holder[v] = bound, first[v], i
            elif bound > second[v]:
                second[v] = bound
    doubtful = np.zeros(256, np.bool_)
    for v in range(256):
        if best[v] >= 0:
            rival = second[v] if holder[v] == best[v] else first[v]
            doubtful[v] = rival >= bright[best[v], AREA2]
    return best, doubtful


@kernel
def _write_boxes(found, width, height, boxes, low, high, start):
    """Boxes of components: one pixel past the object's far corner, but inside the frame."""
    for i in range(len(found)):
        boxes[start + i, 0], boxes[start + i, 1] = found[i, X0], found[i, Y0]
        boxes[start + i, 2] = min(found[i, X1] + 1, width - 1)
        boxes[start + i, 3] = min(found[i, Y1] + 1, height - 1)
        low[start + i], high[start + i] = found[i, LOW], found[i, HIGH]


@kernel
def contour_boxes_per_level(levels):
    """Boxes of all contours of a (H, W) uint8 map at all levels, x0 y0 x1 y1.

    Returns the box of the largest contour at each level (256, 4), zeros where there is none; boxes
    of all contours, holes included, (M, 4); the lowest and the highest level at which each is
    there, (M,); and where the largest is in doubt, (256,).
    """
    H, W = levels.shape
    bright, holes = _components(levels)
    rows, doubtful = _largest_per_level(bright)
    M = len(bright) + len(holes)
    boxes, low, high = np.empty((M, 4), np.int64), np.empty(M, np.int64), np.empty(M, np.int64)
    _write_boxes(bright, W, H, boxes, low, high, 0)
    _write_boxes(holes, W, H, boxes, low, high, len(bright))
    largest = np.zeros((256, 4), np.int64)
    for v in range(256):
        for k in range(4):
            if rows[v] >= 0:
                largest[v, k] = boxes[rows[v], k]
    return largest, boxes, low, high, doubtful


@kernel
def _best_iou(box, truth):
    """Best IoU of one box with (G, 4) boxes, corners inclusive; 0 where G = 0."""
    x0, y0, x1, y1 = box[0], box[1], box[2], box[3]
    best = 0.0
    for g in range(len(truth)):
        width = min(x1, truth[g, 2]) - max(x0, truth[g, 0]) + 1
        height = min(y1, truth[g, 3]) - max(y0, truth[g, 1]) + 1
        if width > 0 and height > 0:
            area = (x1 - x0 + 1) * (y1 - y0 + 1)
            other = (truth[g, 2] - truth[g, 0] + 1) * (truth[g, 3] - truth[g, 1] + 1)
            best = max(best, width * height / (area + other - width * height))
    return best


@kernel
def iou_of_levels(largest, boxes, low, high, truth):
    """Best IoU over (G, 4) boxes at each level, (256,): largest contour, any contour."""
    of_largest, of_all = np.zeros(256), np.full(256, -1.0)
    for v in range(256):
        of_largest[v] = _best_iou(largest[v], truth)
    for i in range(len(boxes)):
        iou = _best_iou(boxes[i], truth)
        for v in range(low[i], high[i] + 1):
            of_all[v] = max(of_all[v], iou)
    for v in range(256):
        if of_all[v] < 0:  # no contour
            of_all[v] = of_largest[v]
    return of_largest, of_all
