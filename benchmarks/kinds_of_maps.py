"""Score maps of many kinds, smooth and not, on which the evaluation is compared with OpenCV.

Each function takes a random generator and the side of the map, and returns (side, side) in [0, 1].
"""

import cv2
import numpy as np


def _grid(rng, side):
    y, x = np.mgrid[:side, :side].astype(float)
    cy, cx = rng.uniform(0.3, 0.7, 2) * side
    return y, x, np.hypot(y - cy, x - cx), np.arctan2(y - cy, x - cx)


def _unit(field):
    low, high = field.min(), field.max()
    return (field - low) / (high - low) if high > low else np.zeros_like(field)


def _resized(rng, side, cells):
    small = rng.normal(size=(cells, cells))
    return _unit(cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC))


def _blurred(rng, side, sigma):
    return _unit(cv2.GaussianBlur(rng.random((side, side)), (0, 0), sigma))


def _hills(rng, side):
    y, x, *_ = _grid(rng, side)
    field = 0.05 * rng.random((side, side))
    for _ in range(3):
        cy, cx, width = *rng.uniform(0, side, 2), rng.uniform(0.05, 0.3) * side
        field += rng.uniform(0.3, 1) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / width**2)
    return _unit(field)


def _spiral(rng, side, share):
    _, _, radius, angle = _grid(rng, side)
    turn = (radius / rng.uniform(8, 16) + angle / (2 * np.pi)) % 1
    return turn if share == 1 else (turn < share) * _unit(-radius)


def _checkerboard(rng, side, ramp):
    y, x, *_ = _grid(rng, side)
    cell = rng.integers(1, 4)
    board = (x // cell + y // cell) % 2
    return board * (_unit(x + y) if ramp else 1.0)


def _nested(rng, side):
    y, x, radius, _ = _grid(rng, side)
    distance = np.maximum(abs(x - side / 2), abs(y - side / 2))
    return (distance // rng.integers(4, 12) % 2) * _unit(-radius)


def _rectangles(rng, side, equal):
    field = np.zeros((side, side))
    for _ in range(40):
        h, w = (9, 9) if equal else rng.integers(1, side // 3, 2)
        y, x = rng.integers(0, side - h), rng.integers(0, side - w)
        field[y : y + h, x : x + w] = 1.0 if equal else rng.random()
    return field


def _dots(rng, side, share):
    return np.where(rng.random((side, side)) < share, rng.random((side, side)), 0)


def _lines(rng, side):
    field = rng.random((side, side))
    return np.where((field < 0.4).cumsum(axis=rng.integers(2)) % 3 == 0, field, 0)


def _pixel(rng, side):
    field = np.zeros((side, side))
    field[tuple(rng.integers(0, side, 2))] = rng.random()
    return field


def _frame(rng, side):
    y, x, *_ = _grid(rng, side)
    edge = np.minimum(np.minimum(x, y), side - 1 - np.maximum(x, y))
    return (edge < rng.integers(1, 5)) * 1.0


KINDS = {
    "grid of 7": lambda rng, side: _resized(rng, side, 7),
    "grid of 14": lambda rng, side: _resized(rng, side, 14),
    "grid of 28": lambda rng, side: _resized(rng, side, 28),
    "grid of 56": lambda rng, side: _resized(rng, side, 56),
    "hills": _hills,
    "blurred noise": lambda rng, side: _blurred(rng, side, rng.uniform(2, 6)),
    "slightly blurred noise": lambda rng, side: _blurred(rng, side, 1),
    "pixel noise": lambda rng, side: rng.random((side, side)),
    "noise of few levels": lambda rng, side: np.floor(4 * rng.random((side, side))) / 3,
    "plateaus": lambda rng, side: (_resized(rng, side, 9) * rng.integers(2, 9)).round() / 9,
    "spiral": lambda rng, side: _spiral(rng, side, 1),
    "thin spiral": lambda rng, side: _spiral(rng, side, 0.2),
    "rings": lambda rng, side: 0.5 + 0.5 * np.cos(_grid(rng, side)[2] / rng.uniform(2, 5)),
    "checkerboard": lambda rng, side: _checkerboard(rng, side, False),
    "checkerboard on a ramp": lambda rng, side: _checkerboard(rng, side, True),
    "nested squares": _nested,
    "equal squares": lambda rng, side: _rectangles(rng, side, True),
    "rectangles": lambda rng, side: _rectangles(rng, side, False),
    "sparse dots": lambda rng, side: _dots(rng, side, 0.05),
    "dense dots": lambda rng, side: _dots(rng, side, 0.6),
    "lines": _lines,
    "stripes": lambda rng, side: (np.mgrid[:side, :side][0] % 3 > 0) * _resized(rng, side, 5),
    "one pixel": _pixel,
    "frame": _frame,
    "ramp": lambda rng, side: _unit(rng.normal() * np.mgrid[:side, :side][0] + np.arange(side)),
    "low contrast": lambda rng, side: 0.01 * _resized(rng, side, 14),
    "constant": lambda rng, side: np.full((side, side), rng.random()),
    "holes": lambda rng, side: 1 - _dots(rng, side, 0.05),
}
