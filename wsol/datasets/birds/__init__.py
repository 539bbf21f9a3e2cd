"""Procedural birds: a data set whose classes differ in the head only, and a background image set.

Drawn from a seed and written to disk in the very directory format of CUB-200-2011 (Wah et al.,
2011), so that :func:`wsol.datasets.cub.read_cub` reads it like the real one:

    root/images.txt, classes.txt, image_class_labels.txt, train_test_split.txt, bounding_boxes.txt
    root/images/<class>/<name>.jpg, root/segmentations/<class>/<name>.png
    root/fullsup/        the split `train-fullsup`: images and wsolevaluation metadata
    root/background/     the background image set

Every image has its own random stream, spawned from (seed, split, number): the set does not depend
on the number of workers, and a longer set begins like a shorter one.
"""

from wsol.datasets.birds.dataset import BirdsConfig, draw_birds
from wsol.datasets.birds.head import SPECIES, Species
from wsol.datasets.birds.image import DrawnImage, background_image, bird_image

__all__ = [
    "SPECIES",
    "BirdsConfig",
    "DrawnImage",
    "Species",
    "background_image",
    "bird_image",
    "draw_birds",
]
