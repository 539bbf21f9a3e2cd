"""Brushes shared by scenes and birds: both are painted with the same strokes, light and texture.

An image is painted twice as large as it is written (``SUPERSAMPLING``) and averaged down, so that
the edge of a bird and the edge of a leaf are anti-aliased in the same way. All functions paint in
place on an (H, W, 3) uint8 canvas and take coordinates in canvas pixels.
"""

import cv2
import numpy as np

SUPERSAMPLING = 2
_SUBPIXEL = 4  # OpenCV takes fixed-point coordinates with this many fractional bits

Rng = np.random.Generator
Canvas = np.ndarray  # (H, W, 3) uint8, RGB
Colour = np.ndarray  # (3,) float, 0-255


def jitter(rng: Rng, colour: Colour, amount: float = 12.0) -> Colour:
    """Return the colour with a common and a per-channel random offset, clipped to 0-255."""
    offset = rng.normal(0, amount) + rng.normal(0, amount / 2, 3)
    return np.clip(np.asarray(colour, float) + offset, 0, 255)


def fixed_point(points: np.ndarray) -> np.ndarray:
    """Convert (P, 2) float points to OpenCV's fixed-point contour of shape (P, 1, 2)."""
    return np.round(points * 2**_SUBPIXEL).astype(np.int32).reshape(-1, 1, 2)


def fill(canvas: np.ndarray, polygon: np.ndarray, colour: Colour | float) -> None:
    """Fill a (P, 2) polygon, anti-aliased; works on colour canvases and on (H, W) masks."""
    value = [float(v) for v in np.atleast_1d(colour)]
    cv2.fillPoly(canvas, [fixed_point(polygon)], value, cv2.LINE_AA, _SUBPIXEL)


def fill_both(layer: Canvas, mask: np.ndarray, polygon: np.ndarray, colour: Colour) -> None:
    """Fill a (P, 2) polygon on a colour layer and set it in the layer's (H, W) uint8 mask."""
    fill(layer, polygon, colour)
    fill(mask, polygon, 255)


def stroke(canvas: np.ndarray, points: np.ndarray, colour: Colour | float, width: float) -> None:
    """Draw a (P, 2) polyline of the given width in canvas pixels."""
    strokes(canvas, points[None], colour, width)


def strokes(canvas: np.ndarray, lines: np.ndarray, colour: Colour | float, width: float) -> None:
    """Draw R polylines, (R, P, 2), of one width in canvas pixels."""
    value = [float(v) for v in np.atleast_1d(colour)]
    contours = [fixed_point(line) for line in lines]
    cv2.polylines(canvas, contours, False, value, max(1, round(width)), cv2.LINE_AA, _SUBPIXEL)


def ellipse(
    centre: np.ndarray, radii: tuple[float, float], angle: float = 0.0, points: int = 24
) -> np.ndarray:
    """Return a (points, 2) ellipse; the angle is in radians."""
    t = np.linspace(0, 2 * np.pi, points, endpoint=False)
    local = np.stack([radii[0] * np.cos(t), radii[1] * np.sin(t)], axis=1)
    return local @ rotation(angle).T + centre


def rotation(angle: float) -> np.ndarray:
    """Return the (2, 2) rotation matrix of an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def tube(spine: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return the outline, (2P, 2), of a tube with (P,) radii around a (P, 2) spine."""
    tangent = np.gradient(spine, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) * radii[:, None]
    return np.concatenate([spine + normal, (spine - normal)[::-1]])


def blob(rng: Rng, centre: np.ndarray, radius: float, rough: float) -> np.ndarray:
    """Return an irregular closed outline (24, 2) around a centre: a stone, a fruit, a bush."""
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    waves = sum(
        rng.normal(0, rough / k) * np.cos(k * t + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4)
    )
    squeeze = rng.uniform(0.55, 1.0)
    local = np.stack([np.cos(t), squeeze * np.sin(t)], axis=1) * (radius * (1 + waves))[:, None]
    return local @ rotation(rng.uniform(-0.6, 0.6)).T + centre


def noise(rng: Rng, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Return smooth noise (H, W) float32 of unit variance with features of ``cell`` pixels."""
    grid = [max(2, round(side / cell) + 1) for side in shape]
    coarse = rng.standard_normal(grid, dtype=np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def composite(canvas: Canvas, layer: Canvas, mask: np.ndarray) -> None:
    """Lay a painted layer over the canvas where the (H, W) uint8 mask is set."""
    y, x = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if not len(y):
        return
    box = np.s_[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    alpha = mask[box][..., None].astype(np.float32) / 255
    canvas[box] = np.round(canvas[box] * (1 - alpha) + layer[box] * alpha).astype(np.uint8)


def shade(
    layer: Canvas, mask: np.ndarray, light: np.ndarray, depth: float, grain: np.ndarray
) -> None:
    """Light the masked shape as a rounded body and roughen it with a grain field, in place.

    The height of the shape is the square root of the distance to its border, up to ``depth``
    pixels; stones, fruit, trunks and birds are all lit by this one function, so that shading does
    not tell them apart.
    """
    y, x = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if not len(y):
        return
    box = np.s_[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    padded = cv2.copyMakeBorder((mask[box] > 127).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    height = np.sqrt(np.minimum(distance, np.float32(depth)) / np.float32(depth))
    height = cv2.GaussianBlur(height, (0, 0), max(1.0, depth / 6))
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3)
    lit = -(slope_x * light[0] + slope_y * light[1]) * depth / 8
    gain = 1 + 0.32 * np.tanh(2 * lit) + 0.10 * (height - 0.6) + 0.09 * grain[box]
    layer[box] = np.clip(layer[box] * gain[..., None], 0, 255).astype(np.uint8)


def shaded_shape(
    canvas: Canvas,
    outline: np.ndarray,
    colour: Colour,
    light: np.ndarray,
    grain: np.ndarray,
    depth: float,
) -> None:
    """Paint one (P, 2) outline as a lit body; only the part of the canvas under it is touched."""
    size = np.array(canvas.shape[1::-1])
    low = np.clip(np.floor(outline.min(axis=0)).astype(int) - 1, 0, size)
    high = np.clip(np.ceil(outline.max(axis=0)).astype(int) + 2, 0, size)
    if (high - low < 2).any():
        return
    window = np.s_[low[1] : high[1], low[0] : high[0]]
    part = canvas[window]
    mask = np.zeros(part.shape[:2], np.uint8)
    fill(mask, outline - low, 255)
    layer = np.empty_like(part)
    layer[:] = np.round(colour)
    shade(layer, mask, light, depth, grain[window])
    composite(part, layer, mask)
