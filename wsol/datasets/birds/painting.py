"""A picture in the making: its canvas, and the colours, places and sizes of what is on it."""

from dataclasses import dataclass

import numpy as np

from wsol.datasets.birds.canvas import Canvas, jitter


@dataclass
class Scene:
    """A picture in the making: the canvas and what all its layers share."""

    canvas: Canvas  # (H, W, 3) uint8
    palette: np.ndarray  # (P, 3) float, 0-255
    light: np.ndarray  # (2,) direction of the light
    grain: np.ndarray  # (H, W) float32, unit variance: the roughness of every surface
    scale: float  # size of the elements, 1 = as in the birds' habitats
    foliage: str  # element that grows in front of everything

    @property
    def unit(self) -> float:
        """Length in canvas pixels that all sizes are multiples of: a hundredth of the picture."""
        return self.scale * min(self.canvas.shape[:2]) / 100

    def colour(self, rng: np.random.Generator, amount: float = 14) -> np.ndarray:
        """Draw a colour of the palette, (3,) float in 0-255, jittered by an amount."""
        return jitter(rng, self.palette[rng.integers(len(self.palette))], amount)

    def anywhere(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a place (x, y) in canvas pixels, in the picture or a little outside."""
        h, w = self.canvas.shape[:2]
        return rng.uniform([-0.05 * w, -0.05 * h], [1.05 * w, 1.05 * h])
