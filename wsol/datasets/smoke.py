"""Small inputs below runs/smoke that the notebooks about data draw if they are missing.

Paths elsewhere belong to the user and may be incomplete: the notebooks say what is missing.
"""

import runpy
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from wsol import project_root
from wsol.datasets.birds import SPECIES, background_image, bird_image
from wsol.datasets.files import MADE, is_made, written_folder
from wsol.datasets.index import INDEX, TRAIN_WEAKSUP, read_index, rows_of

SMOKE = Path("runs") / "smoke"  # where the defaults of all notebooks write
MINIATURES = Path("study") / "real" / "miniatures.py"


def _is_drawn(folder: Path) -> bool:
    """Whether a folder below `SMOKE` is missing, empty or drawn here: all others are the user's."""
    if project_root() / SMOKE not in folder.parents:
        return False
    return is_made(folder) or not (folder.exists() and any(folder.iterdir()))


def is_outdated(made: Path) -> bool:
    """Whether a file is missing or older than the library."""
    newest = max(file.stat().st_mtime for file in Path(__file__).parents[1].rglob("*.py"))
    return not made.exists() or made.stat().st_mtime < newest


def ensure_miniature(kind: str, part: Path) -> None:
    """Draw a small data set in the authors' format around one of its folders.

    kind : "cub", "ilsvrc", "openimages" or "folder", see study/real/miniatures.py
    part : a folder of the data set, whose parent is replaced if it was drawn here
    """
    if _is_drawn(part.parent) and is_outdated(part.parent / MADE):
        with written_folder(part.parent, marked=True) as new:
            runpy.run_path(str(project_root() / MINIATURES))[f"make_{kind}"](new)


def ensure_background_images(folder: Path, data: Path) -> None:
    """Draw candidates for a background set of the data set `data`.

    24 scenes, two exact copies, two near copies, four images with a bird, one training image.
    """
    if _is_drawn(folder) and is_outdated(folder / MADE):
        with written_folder(folder, marked=True) as new:
            _draw_background_images(new, data)


def _draw_background_images(folder: Path, data: Path) -> None:
    rng = np.random.default_rng(15)
    for i in range(24):
        Image.fromarray(background_image(rng, 0.3).image).save(folder / f"scene-{i:02d}.jpg")
    for i in range(4):
        Image.fromarray(bird_image(rng, SPECIES[i]).image).save(folder / f"scene-9{i}.jpg")
    for i in (3, 8):
        shutil.copyfile(folder / f"scene-{i:02d}.jpg", folder / f"scene-{i:02d}_again.jpg")
    for i in (5, 12):
        with Image.open(folder / f"scene-{i:02d}.jpg") as image:
            half = image.resize((image.width // 2, image.height // 2))
        half.save(folder / f"scene-{i:02d}_small.jpg", quality=60)
    first = rows_of(read_index(data / INDEX), TRAIN_WEAKSUP)["path"].iloc[0]
    shutil.copyfile(data / first, folder / "training-image.jpg")
