"""Boxes of all contours of all binarizations of a map, from a few per cent of its pixels.

The binary maps ``grey >= v`` for v = 255 ... 1 are nested: from one to the next, pixels are only
added, so components appear, grow and merge. They form a *component tree* or *max-tree* (Salembier
et al., IEEE TIP 1998), which union-find builds in one sweep over the pixels in order of their grey
(Berger et al., ICIP 2007). Holes are components of the dark pixels, of 4 neighbours where bright
ones have 8, found by the same sweep upwards; those that reach the border of the map are no holes.

Most pixels change nothing that is asked for, which is the box of each component. By the neighbours
that come before it, a pixel matters only if

    . . .            # . #           . . .
    . p .  birth     . p .  join     . p #  may stick out: nothing before it on one side
    . . .            # . .           . # #  and in its own row or column

(# comes before p). These *items* are 5 to 20 % of a smooth map. The component of an item is found
by walking from neighbour to earlier neighbour until one is labelled. A row (box, and the levels at
which it is valid) is written only when a box changes.

The largest contour is that of largest polygon area, which runs through pixel centres. Twice the
area of a component is at most twice that of its box, and never falls as the level falls, so few
borders are traced (Suzuki and Abe, CVGIP 1985): where two rows contend. Of equal areas OpenCV lists
first the contour whose first pixel comes last in reading order, so that one is the largest here.

Pixels are ordered by 16-bit grey, then by reading order: the upper byte is the level, the lower one
orders pixels of one level, as fine as the map does. A pixel's *place* is ``(y << shift) + x`` in a
map with a frame of one pixel around it. Everything that :func:`components` calls is in this file,
which is all that numba's cache on disk watches; compiling takes some 20 seconds, once.

Shapes: H W map, M rows.
"""

import numpy as np
from numba import njit

kernel = njit(cache=True, nogil=True)
inlined = njit(cache=True, nogil=True, inline="always")

X0, Y0, X1, Y1, TOP, LOW, HIGH = range(7)  # columns of a row; TOP is a place in its highest line
PLACE = (1 << 24) - 1  # lower bits of an item; the upper 8 are its pattern
LABELS = (1 << 31) - 1 - 2 * PLACE  # of int32, less those that one map may take


@inlined
def _ring(S):
    return np.array([-S - 1, -S, -S + 1, 1, S + 1, S, S - 1, -1], np.int64)


@inlined
def _shift(S):
    shift = 3
    while 1 << shift < S:
        shift += 1
    return shift


@kernel
def _find_items(score, scale, work):
    """Fill grey, patterns and the items of both sweeps; how many there are of each."""
    H, W = score.shape
    grey, patterns, bright, dark = work.grey, work.patterns, work.bright, work.dark
    S, n, m = grey.shape[1], np.uint64(0), np.uint64(0)  # unsigned: no check for negative places
    for y in range(H):
        for x in range(W):
            grey[y + 1, x + 1] = np.int32(score[y, x] * scale) + 1
    for y in range(1, H + 1):
        above, here, below, out = grey[y - 1], grey[y], grey[y + 1], patterns[y]
        for x in range(1, W + 1):  # apart from the next loop, because this one is vectorized
            g = here[x]
            out[x] = (
                (above[x - 1] >= g) | (above[x] >= g) << 1 | (above[x + 1] >= g) << 2
                | (here[x + 1] > g) << 3 | (below[x + 1] > g) << 4 | (below[x] > g) << 5
                | (below[x - 1] > g) << 6 | (here[x - 1] >= g) << 7
            )  # fmt: skip
        for x in range(1, W + 1):  # without a branch, which nobody could predict
            pattern = np.uint32(out[x])
            kind = np.uint64(work.kinds[pattern])
            bright[n] = dark[m] = pattern << np.uint32(24) | np.uint32(y * S + x)
            n += kind & np.uint64(1)
            m += kind >> np.uint64(1)
    return n, m


@inlined
def _bin(item, grey, joins, is_bright):
    v = (np.int64(grey[item & PLACE]) - 1) >> 8
    return (255 - v if is_bright else v) * 2 + (joins[item >> 24, 0] >= 0)


@kernel
def _sorted_items(items, grey, joins, is_bright, out):
    """Sort items as the sweep meets them, births first in each level.

    All births of a level have their labels before walks begin; then the order does not matter.
    Returns where the births and the others of each level begin, (513,).
    """
    counts = np.zeros(513, np.int64)
    for item in items:
        counts[_bin(item, grey, joins, is_bright) + 1] += 1
    begins = counts.cumsum()
    nexts = begins.copy()
    for item in items:
        k = _bin(item, grey, joins, is_bright)
        out[nexts[k]] = item
        nexts[k] += 1
    return begins


@inlined
def _component(place, patterns, label, base, way, parent):
    """The component of a pixel that came before: that of the first labelled pixel on its way."""
    p = place = np.uint64(place)  # unsigned numbers spare the check for negative ones
    c = label[p]
    while c < base:
        p += way[patterns[p]]
        c = label[p]
    while place != p:
        label[place] = c
        place += way[patterns[place]]
    root = np.uint64(c - base)
    while parent[root] != root:
        parent[root] = parent[parent[root]]
        root = parent[root]
    return np.int64(root)


@inlined
def _extend(r, box, v, rows, M, START, END):
    """Extend the box of row r; the row that has it, a new one once a level, and the new count.

    A view of a row would cost the count of its references, a third of the sweep.
    """
    x0, y0, x1, y1, top = box
    if (x0 >= rows[r, X0]) & (y0 >= rows[r, Y0]) & (x1 <= rows[r, X1]) & (y1 <= rows[r, Y1]):
        return r, M
    if rows[r, START] != v:
        for k in range(7):
            rows[M, k] = rows[r, k]
        rows[r, END] = v + 1 if END == LOW else v - 1
        rows[M, START] = v
        r, M = M, M + 1
    if y0 < rows[r, Y0]:
        rows[r, Y0], rows[r, TOP] = y0, top
    rows[r, X0], rows[r, X1] = min(rows[r, X0], x0), max(rows[r, X1], x1)
    rows[r, Y1] = max(rows[r, Y1], y1)
    return r, M


@kernel
def _sweep(items, begins, work, base, joins, rows, is_bright):
    """Rows of bright components as the level falls, or of holes as it rises.

    A component that is born and merged in one level leaves a row with LOW > HIGH. Component c has
    the label base + c. Returns the number of rows, and the base of the next sweep.
    """
    S, births = work.grey.shape[1], (begins[1::2] - begins[:-1:2]).sum()
    label, patterns, shift, ring = work.label, work.patterns.ravel(), _shift(S), _ring(S)
    way = np.zeros(256, np.uint64)
    for k in range(256):
        if joins[k, 0] >= 0:
            way[k] = ring[joins[k, 0]]
    parent, row_of = np.empty(births + 1, np.uint64), np.empty(births + 1, np.int64)
    parent[0], M, C, alive, only = 0, 0, 0, 0, 0  # component 0 of dark pixels is the outside
    START, END, last = (HIGH, LOW, 1) if is_bright else (LOW, HIGH, 255)
    for step in range(255):
        v = 255 - step if is_bright else 1 + step
        for i in range(begins[2 * step], begins[2 * step + 1]):
            p = np.int64(items[i]) & PLACE
            x, y = p & (S - 1), p >> shift
            C, alive, only = C + 1, alive + 1, C + 1
            label[p], parent[C], row_of[C] = base + C, C, M
            rows[M, X0], rows[M, Y0], rows[M, X1], rows[M, Y1], rows[M, TOP] = x, y, x, y, p
            rows[M, START], rows[M, END] = v, last
            M += 1
        if alive == 0:  # dark, and all of it is outside
            continue
        for i in range(begins[2 * step + 1], begins[2 * step + 2]):
            p, pattern = np.int64(items[i]) & PLACE, np.int64(items[i]) >> 24
            x, y, c, j = p & (S - 1), p >> shift, only, 1
            if alive > 1 or not is_bright:
                place = np.uint64(p) + way[np.uint64(pattern)]
                c = _component(place, patterns, label, base, way, parent)
            while joins[pattern, j] >= 0 and (alive > 1 or not is_bright):
                place = p + ring[joins[pattern, j]]
                d = _component(place, patterns, label, base, way, parent)
                j += 1
                if c == d:
                    continue
                c, d = min(c, d), max(c, d)  # the older one stays
                parent[d], only = c, c
                alive -= 1
                g = row_of[d]
                rows[g, END] = v + 1 if is_bright else v - 1
                if c > 0:
                    box = rows[g, X0], rows[g, Y0], rows[g, X1], rows[g, Y1], rows[g, TOP]
                    row_of[c], M = _extend(row_of[c], box, v, rows, M, START, END)
            label[p] = base + c
            if c > 0:
                row_of[c], M = _extend(row_of[c], (x, y, x, y, p), v, rows, M, START, END)
    return M, base + births + 1


@kernel
def _trace(grey, v, top, shift, ring):
    """Follow the outer border at level v of the component that has `top` in its highest line.

    Returns twice the area of its polygon, and its first place in reading order.
    """
    S, cut = 1 << shift, v << 8  # grey - 1 >= 256 v
    start = 3  # nothing of the component lies above
    while start < 8 and grey[np.uint64(top + ring[start])] <= cut:
        start += 1
    if start == 8:
        return 0, top
    area, first, p, way = 0, top, top, start
    while True:
        n = p + ring[np.uint64(way)]
        area += (p & (S - 1)) * (n >> shift) - (n & (S - 1)) * (p >> shift)
        first, p = min(first, n), n
        way = (way + 6 + (way & 1)) & 7  # clockwise, after the dark pixel that was seen last
        while grey[np.uint64(p + ring[np.uint64(way)])] <= cut:
            way = (way + 1) & 7
        if p == top and way == start:
            return abs(area), first


@kernel
def _largest(rows, M, grey, shift):
    """Row of the largest contour at each level, (256,), -1 where there is none."""
    best, active = np.full(256, -1, np.int64), np.empty(M, np.int64)
    # Of each row: how large twice its area can be, its first place, and whether the bound is the
    # area at the row's lowest level (1) or at all its levels (2).
    bound, first, known = np.empty(M, np.int64), np.empty(M, np.int64), np.zeros(M, np.int8)
    n, new, least = 0, 0, 0  # some component has twice the area `least`, here and further down
    ring = _ring(1 << shift)
    for v in range(255, 0, -1):
        k = 0
        for i in range(n):
            if rows[active[i], LOW] <= v and bound[active[i]] >= least:
                active[k] = active[i]
                k += 1
        n = k
        while new < M and rows[new, HIGH] == v:
            width, height = rows[new, X1] - rows[new, X0], rows[new, Y1] - rows[new, Y0]
            bound[new] = 2 * width * height
            if rows[new, LOW] <= v and bound[new] >= least:
                active[n] = new
                n += 1
            new += 1
        if n == 1:
            best[v] = active[0]
        if n < 2:
            continue
        top = 0  # the most likely one first: what it reaches spares others
        for i in range(1, n):
            if bound[active[i]] > bound[active[top]]:
                top = i
        active[0], active[top] = active[top], active[0]
        area, place = -1, -1
        for i in range(n):
            r = active[i]
            low = rows[r, LOW]
            if i > 0 and known[r] == 0 and low < v and bound[r] >= least:
                bound[r], first[r] = _trace(grey, low, rows[r, TOP], shift, ring)
                known[r] = 1
            if bound[r] < least:
                continue
            if known[r] == 2:
                own, at = bound[r], first[r]
            else:
                own, at = _trace(grey, v, rows[r, TOP], shift, ring)
                if low == v or (known[r] == 1 and own == bound[r] and at == first[r]):
                    bound[r], first[r], known[r] = own, at, 2
            if own > area or (own == area and at > place):
                best[v], area, place = r, own, at
                least = max(least, own)
    return best


@kernel
def components(score, scale, work):
    """Components of the map (H, W) ``int(score * scale) >> 8 >= v`` for v of 1 to 255.

    Of scores in [0, 1] the scale is 255 * 256, whose level is exactly that of 255. Returns the
    number of rows of bright components and of holes, which are in work.rows in this order, and the
    row of the largest contour at each v, (256,), -1 where there is none.
    """
    H, W = score.shape
    S, grey, label, rows = work.grey.shape[1], work.grey.ravel(), work.label, work.rows
    base = work.base[0]  # labels of earlier sweeps are less, which spares clearing them
    if base > LABELS:
        label[:], base = 0, 1
    n, m = _find_items(score, scale, work)
    joins, items = work.joins, work.items
    begins = _sorted_items(work.bright[:n], grey, joins[0], True, items)
    bright, base = _sweep(items, begins, work, base, joins[0], rows, True)
    begins = _sorted_items(work.dark[:m], grey, joins[1], False, items)
    label[:S] = label[(H + 1) * S :] = label[::S] = label[W + 1 :: S] = base
    holes, work.base[0] = _sweep(items, begins, work, base, joins[1], rows[bright:], False)
    return bright, holes, _largest(rows, bright, grey, _shift(S))
