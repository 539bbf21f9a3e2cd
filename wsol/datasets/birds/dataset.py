"""Writing the drawn birds to disk in the directory format of CUB-200-2011."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from wsol.datasets.backgrounds.manifest import write_manifest
from wsol.datasets.birds.canvas import Rng
from wsol.datasets.birds.head import SPECIES
from wsol.datasets.birds.image import DrawnImage, background_image, bird_image, noise_image
from wsol.datasets.files import write_text

_STREAMS = {"train": 0, "test": 1, "fullsup": 2, "background": 3}


@dataclass(frozen=True)
class BirdsConfig:
    """What is drawn. The defaults are the headline set."""

    n_train: int = 2400  # images of `train-weaksup`
    n_fullsup: int = 200  # images of `train-fullsup`
    n_test: int = 400  # images of `test`
    n_background: int = 400  # images of the background set
    seed: int = 0
    cue: str = "head"  # where the class shows: "head" or "body" (a control)
    gap: float = 0.3  # distance of the background set from the birds' habitats, 0 to 1
    contamination: float = 0.0  # share of background images that contain a bird
    background: str = "scenes"  # or "noise" (a control)

    def __post_init__(self) -> None:
        for name, known in (("background", ("scenes", "noise")), ("cue", ("head", "body"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; known: {known}")
        for name in ("gap", "contamination"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a share between 0 and 1")
        for name in ("n_train", "n_fullsup", "n_test"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; every split needs an image")


CLASSES = [f"{k:03d}.{species.name}" for k, species in enumerate(SPECIES, start=1)]  # folders


class _Job(NamedTuple):
    """Image number i of a stream, its label, and where it goes: below images/ of a folder."""

    config: BirdsConfig
    stream: str
    number: int
    label: int
    folder: Path
    name: str

    def draw(self) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
        """Draw and write it; return its (width, height) and box (x, y, width, height)."""
        seed = np.random.SeedSequence([self.config.seed, _STREAMS[self.stream], self.number])
        drawn = self._draw_image(np.random.default_rng(seed))
        below = self.folder if self.stream == "background" else self.folder / "images"
        path = below / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.image).save(path, quality=92, subsampling=0)
        if self.stream in ("train", "test"):
            mask = (self.folder / "segmentations" / self.name).with_suffix(".png")
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn.mask.astype(np.uint8) * 255).save(mask)
        return drawn.image.shape[1::-1], drawn.box

    def _draw_image(self, rng: Rng) -> DrawnImage:
        if self.stream != "background":
            return bird_image(rng, SPECIES[self.label], self.config.cue)
        if rng.random() < self.config.contamination:
            return bird_image(rng, SPECIES[rng.integers(len(SPECIES))], self.config.cue)
        if self.config.background == "noise":
            return noise_image(rng)
        return background_image(rng, self.config.gap)


def _jobs(config: BirdsConfig, stream: str, folder: Path) -> list[_Job]:
    jobs = []
    for i in range(getattr(config, f"n_{stream}")):
        label, name = i % len(SPECIES), f"background_{i:04d}.jpg"
        if stream != "background":
            stem = f"{SPECIES[label].name}_{stream}_{i // len(SPECIES):04d}"
            name = f"{CLASSES[label]}/{stem}.jpg"
        jobs.append(_Job(config, stream, i, label, folder, name))
    return jobs


def draw_birds(root: Path, config: BirdsConfig, workers: int = 2) -> None:
    """Draw the whole set below ``root``: CUB-200-2011 layout, `fullsup/` and `background/`."""
    root = Path(root)
    # Ids of CUB count from 1, in the order of the paths.
    cub = _jobs(config, "train", root) + _jobs(config, "test", root)
    cub = sorted(cub, key=lambda job: job.name)
    fullsup = _jobs(config, "fullsup", root / "fullsup")
    background = _jobs(config, "background", root / "background")
    jobs = cub + fullsup + background
    with ProcessPoolExecutor(workers) as pool:
        drawn = list(pool.map(_Job.draw, jobs, chunksize=16))
    tables: dict[str, list] = {
        "images.txt": [job.name for job in cub],
        "classes.txt": CLASSES,
        "image_class_labels.txt": [job.label + 1 for job in cub],
        "train_test_split.txt": [int(job.stream == "train") for job in cub],
        "bounding_boxes.txt": [" ".join(f"{v:.1f}" for v in box) for _, box in drawn[: len(cub)]],
    }
    for name, values in tables.items():
        _write_lines(root / name, (f"{i} {value}" for i, value in enumerate(values, start=1)))
    boxed = [
        (job.name, job.label, size, [(x, y, x + w, y + h)])
        for job, (size, (x, y, w, h)) in zip(fullsup, drawn[len(cub) :], strict=False)
    ]
    write_metadata(root / "fullsup", boxed)
    if background:
        kind = f"gap={config.gap:g}" if config.background == "scenes" else config.background
        source = f"wsol.datasets.birds seed={config.seed} {kind}"
        write_manifest(root / "background", source, licence="MIT")


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))


def write_metadata(
    folder: Path, rows: Sequence[tuple[str, int, tuple[int, int], list[tuple]]]
) -> None:
    """Write the four text files of `wsol.datasets.metadata`.

    rows : image id, label, (width, height) and boxes (x0, y0, x1, y1), in pixels
    """
    _write_lines(folder / "image_ids.txt", (name for name, *_ in rows))
    _write_lines(folder / "class_labels.txt", (f"{name},{label}" for name, label, *_ in rows))
    _write_lines(folder / "image_sizes.txt", (f"{name},{w},{h}" for name, _, (w, h), _ in rows))
    boxes = (f"{name},{','.join(map(str, box))}" for name, *_, boxes in rows for box in boxes)
    _write_lines(folder / "localization.txt", boxes)
