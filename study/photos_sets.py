"""Background sets of the study on photographs, and how far each lies from the birds' surroundings.

Every set is a folder of images below runs/photos/sets, made once from what lies below data/raw:

    noise          uniform noise, each image of another grain
    scenes         the MIT scenes as they are
    scenes_near    crops of the scenes, 0.25 to 0.7 of their side, blurred by 0 to 9 px
    google         BACKGROUND_Google as it is
    google_audit   the same without the quarter that a trained run takes for objects most
    pets           squares of pet photographs without a pixel of the animal, by their trimaps,
                   of every tenth photograph
    corners        the corner of each training image of the birds that its own class map and
                   foreground map claim least, by a run trained on `scenes`; no boxes
    objects        the training images of the birds themselves: a control
    surroundings   squares beside the true boxes of the training images: a reference, since it
                   uses boxes
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.linalg import sqrtm

from wsol import project_root
from wsol.backbones import Backbone
from wsol.datasets.files import written_folder
from wsol.datasets.image_files import decoded, list_images, upright
from wsol.datasets.images import as_input, load_images
from wsol.datasets.index import (
    INDEX,
    TRAIN_FULLSUP,
    TRAIN_WEAKSUP,
    parse_boxes,
    read_index,
    rows_of,
)
from wsol.evaluation.predict import run_network
from wsol.inference.audit import object_scores
from wsol.training.runs import WEIGHTS, load_network

ROOT = project_root()
RAW, RUNS = ROOT / "data" / "raw", ROOT / "runs" / "photos"
RUN = RUNS / "main" / "background_plus-0" / "train" / WEIGHTS  # that audits and chooses corners
SIDE = 224  # of the images that are written
SMALLEST = 0.2  # of an image's shorter side that a square has at least
CORNER = 0.3  # of an image's shorter side that a corner has


def noise(out: Path, count: int = 400) -> None:
    """Uniform noise on a coarser and coarser grid."""
    rng = np.random.default_rng(0)
    for i in range(count):
        grain = int(rng.integers(4, SIDE))
        image = Image.fromarray(rng.integers(0, 256, (grain, grain, 3), dtype=np.uint8))
        image.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(out / f"{i:04}.png")


def scenes_near(out: Path, folder: Path) -> None:
    """A crop of each scene, blurred."""
    rng = np.random.default_rng(0)
    for i, path in enumerate(list_images(folder)):
        with decoded(path) as image:
            image = image.convert("RGB")
        side = round(min(image.size) * rng.uniform(0.25, 0.7))
        x, y = (int(rng.integers(0, full - side + 1)) for full in image.size)
        crop = image.crop((x, y, x + side, y + side)).resize((SIDE, SIDE))
        blur = ImageFilter.GaussianBlur(rng.uniform(0, 9) * SIDE / 256)
        crop.filter(blur).save(out / f"{i:04}.png")


def google_audit(out: Path, folder: Path, run: Path) -> None:
    """The three quarters of the images with the lowest foreground."""
    paths = list_images(folder)
    scores, _ = object_scores(paths, run, "foreground")
    for path in np.array(paths)[np.argsort(scores)[: round(0.75 * len(paths))]]:
        (out / path.name).symlink_to(path)


def squares_beside(box: NDArray, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """The largest square in each strip left of, right of, above and below a box, if large enough.

    box : (4,) x0, y0, x1, y1; size : (width, height) of the image
    """
    width, height = size
    x0, y0, x1, y1 = (int(v) for v in (np.floor(box[0]), np.floor(box[1]), *np.ceil(box[2:])))
    strips = [(0, 0, x0, height), (x1, 0, width, height), (0, 0, width, y0), (0, y1, width, height)]
    squares = []
    for left, top, right, bottom in strips:
        side = min(right - left, bottom - top)
        if side >= SMALLEST * min(size):
            x, y = (left + right - side) // 2, (top + bottom - side) // 2
            squares.append((x, y, x + side, y + side))
    return squares


def beside_objects(out: Path, rows: pd.DataFrame, root: Path) -> None:
    """Squares beside the boxes of the images of index rows."""
    for row in rows.itertuples():
        box = parse_boxes(row.boxes)[0]
        with decoded(root / row.path) as file:
            image = upright(file)  # as its boxes are
        for j, square in enumerate(squares_beside(box, image.size)):
            image.crop(square).resize((SIDE, SIDE)).save(out / f"{row.Index:04}-{j}.png")


def corners(out: Path, index: pd.DataFrame, root: Path, run: Path) -> None:
    """Of each training image the corner that a run claims least; the better half of the images."""
    network, config = load_network(run)
    chosen = []
    for row in rows_of(index, TRAIN_WEAKSUP).itertuples():
        path = root / row.path
        outputs = run_network(network, load_images([path], config.input_size))
        maps = torch.stack([outputs.class_maps[0, row.label], outputs.foreground[0, 0]]).sigmoid()
        maps = torch.nn.functional.interpolate(maps[None], (100, 100), mode="bilinear")[0].mean(0)
        side = round(100 * CORNER)
        places = [(x, y) for x in (0, 100 - side) for y in (0, 100 - side)]
        claims = [float(maps[y : y + side, x : x + side].mean()) for x, y in places]
        chosen.append((min(claims), row.Index, path, places[int(np.argmin(claims))]))
    for _, i, path, (x, y) in sorted(chosen)[: len(chosen) // 2]:
        with decoded(path) as file:
            image = upright(file)
        w, h = image.size
        side = round(CORNER * min(w, h))
        left, top = (w - side if x else 0), (h - side if y else 0)
        square = (left, top, left + side, top + side)
        image.crop(square).resize((SIDE, SIDE)).save(out / f"{i:04}.png")


def objects(out: Path, index: pd.DataFrame, root: Path) -> None:
    """The training images themselves."""
    for row in rows_of(index, TRAIN_WEAKSUP).itertuples():
        path = root / row.path
        (out / f"{row.Index:04}{path.suffix}").symlink_to(path.resolve())


def make_set(name: str) -> Path:
    """The folder of a set, made if it is not there."""
    out = RUNS / "sets" / name
    if out.is_dir():
        return out
    data = RUNS / "data" / ("pets" if name == "pets" else "cub27")
    index = read_index(data / INDEX) if (data / INDEX).is_file() else None
    with written_folder(out) as partial:
        _fill(name, partial, index, data)
    return out


def _fill(name: str, partial: Path, index: pd.DataFrame | None, data: Path) -> None:
    {
        "noise": lambda: noise(partial),
        "scenes_near": lambda: scenes_near(partial, RAW / "scenes"),
        "google_audit": lambda: google_audit(partial, RAW / "BACKGROUND_Google", RUN.parent),
        "pets": lambda: beside_objects(partial, index.iloc[::10], data),
        "corners": lambda: corners(partial, index, data, RUN),
        "objects": lambda: objects(partial, index, data),
        "surroundings": lambda: beside_objects(partial, rows_of(index, TRAIN_WEAKSUP), data),
    }[name]()


def statistics(features: NDArray) -> tuple[NDArray, NDArray]:
    """Mean and covariance of locations (n, C)."""
    return features.mean(0), np.cov(features, rowvar=False)


def frechet(one: tuple[NDArray, NDArray], two: tuple[NDArray, NDArray]) -> float:
    """Frechet distance of two normal distributions, as FID has it (Heusel et al., NIPS 2017)."""
    product = sqrtm(one[1] @ two[1])
    return float(((one[0] - two[0]) ** 2).sum() + np.trace(one[1] + two[1] - 2 * product.real))


@torch.inference_mode()
def locations(backbone: Backbone, paths: list[Path], limit: int = 150) -> NDArray:
    """Late features (n, h, w, C) of images at equal steps."""
    paths = paths[:: max(1, len(paths) // limit)][:limit]
    parts = []
    for start in range(0, len(paths), 16):
        images = load_images(paths[start : start + 16], SIDE)
        parts.append(backbone(as_input(images, torch.device("cpu")))[1].permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


def surrounding_locations(backbone: Backbone, index: pd.DataFrame, root: Path) -> NDArray:
    """Late features (n, C) outside the boxes of `train-fullsup`, which has boxes."""
    rows = rows_of(index, TRAIN_FULLSUP)
    features = locations(backbone, [root / path for path in rows["path"]], len(rows))
    side = features.shape[1]
    outside = np.ones(features.shape[:3], bool)
    for i, row in enumerate(rows.itertuples()):
        x0, y0, x1, y1 = parse_boxes(row.boxes)[0] / np.tile([row.width, row.height], 2) * side
        outside[i, int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = False
    return features[outside]
