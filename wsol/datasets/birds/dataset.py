"""Writing the drawn birds to disk in the directory format of CUB-200-2011."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from wsol.datasets.backgrounds.manifest import write_manifest
from wsol.datasets.birds.picture import Picture, background_picture, bird_picture, noise_picture
from wsol.datasets.birds.species import SPECIES

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
        if self.background not in ("scenes", "noise"):
            raise ValueError(f"background is {self.background!r}; there are 'scenes' and 'noise'")
        if self.cue not in ("head", "body"):
            raise ValueError(f"cue is {self.cue!r}; the class can show in 'head' or 'body'")
        for name in ("gap", "contamination"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a share between 0 and 1")
        for name in ("n_train", "n_fullsup", "n_test"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; every split needs an image")


@dataclass(frozen=True)
class _Job:
    """One picture to draw: number i of a stream, and where it goes."""

    config: BirdsConfig
    stream: str
    number: int
    image_path: Path
    mask_path: Path | None


def class_folder(label: int) -> str:
    """Return the CUB-style folder of a 0-based label, such as ``001.Red_capped_Finch``."""
    return f"{label + 1:03d}.{SPECIES[label].name}"


def draw_birds(root: Path, config: BirdsConfig, workers: int = 2) -> None:
    """Draw the whole set below ``root``: CUB-200-2011 layout, `fullsup/` and `background/`."""
    root = Path(root)
    train, test = (_names(root, config, s) for s in ("train", "test"))
    fullsup = _names(root / "fullsup", config, "fullsup", masks=False)
    background = [
        _Job(config, "background", i, root / "background" / f"background_{i:04d}.jpg", None)
        for i in range(config.n_background)
    ]
    jobs = train + test + fullsup + background
    for job in jobs:
        for path in filter(None, (job.image_path, job.mask_path)):
            path.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        pictures = dict(zip(jobs, pool.map(_draw, jobs, chunksize=16), strict=True))
    _write_cub_tables(root, train, test, pictures)
    _write_metadata(root / "fullsup", fullsup, pictures)
    if background:
        kind = f"gap={config.gap:g}" if config.background == "scenes" else config.background
        source = f"wsol.datasets.birds seed={config.seed} {kind}"
        write_manifest(root / "background", source, licence="MIT")


def _names(root: Path, config: BirdsConfig, stream: str, masks: bool = True) -> list[_Job]:
    """Name the pictures of one stream; labels go round so that the classes are balanced."""
    jobs = []
    for i in range(getattr(config, f"n_{stream}")):
        folder = class_folder(i % len(SPECIES))
        stem = f"{folder[4:]}_{stream}_{i // len(SPECIES):04d}"
        mask = root / "segmentations" / folder / f"{stem}.png" if masks else None
        jobs.append(_Job(config, stream, i, root / "images" / folder / f"{stem}.jpg", mask))
    return jobs


def _draw(job: _Job) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """Draw and write one picture; return its (width, height) and box (x, y, width, height)."""
    seed = np.random.SeedSequence([job.config.seed, _STREAMS[job.stream], job.number])
    rng = np.random.default_rng(seed)
    picture = _picture(rng, job)
    Image.fromarray(picture.image).save(job.image_path, quality=92, subsampling=0)
    if job.mask_path:
        Image.fromarray(picture.mask.astype(np.uint8) * 255).save(job.mask_path)
    return picture.image.shape[1::-1], picture.box


def _picture(rng: np.random.Generator, job: _Job) -> Picture:
    if job.stream != "background":
        return bird_picture(rng, SPECIES[job.number % len(SPECIES)], job.config.cue)
    if rng.random() < job.config.contamination:
        return bird_picture(rng, SPECIES[rng.integers(len(SPECIES))], job.config.cue)
    if job.config.background == "noise":
        return noise_picture(rng)
    return background_picture(rng, job.config.gap)


def _write_lines(path: Path, lines: Iterator[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _write_cub_tables(root: Path, train: list[_Job], test: list[_Job], pictures: dict) -> None:
    """Write the five text files of CUB-200-2011; ids count from 1, sorted by path as there."""
    jobs = sorted(train + test, key=lambda job: job.image_path.as_posix())
    images = root / "images"
    rows = [(i + 1, job, *pictures[job]) for i, job in enumerate(jobs)]
    _write_lines(
        root / "images.txt",
        (f"{i} {job.image_path.relative_to(images).as_posix()}" for i, job, _, _ in rows),
    )
    _write_lines(root / "classes.txt", (f"{k + 1} {class_folder(k)}" for k in range(len(SPECIES))))
    _write_lines(
        root / "image_class_labels.txt",
        (f"{i} {int(job.image_path.parent.name[:3])}" for i, job, _, _ in rows),
    )
    _write_lines(
        root / "train_test_split.txt",
        (f"{i} {int(job.stream == 'train')}" for i, job, _, _ in rows),
    )
    _write_lines(
        root / "bounding_boxes.txt",
        (f"{i} " + " ".join(f"{v:.1f}" for v in box) for i, _, _, box in rows),
    )


def _write_metadata(root: Path, jobs: list[_Job], pictures: dict) -> None:
    """Write the wsolevaluation metadata of one split: corners x0, y0, x1 = x0 + width, ..."""
    rows = [
        (job.image_path.relative_to(root / "images").as_posix(), job, *pictures[job])
        for job in jobs
    ]
    _write_lines(root / "image_ids.txt", (name for name, *_ in rows))
    _write_lines(
        root / "class_labels.txt",
        (f"{name},{int(job.image_path.parent.name[:3]) - 1}" for name, job, _, _ in rows),
    )
    _write_lines(root / "image_sizes.txt", (f"{name},{w},{h}" for name, _, (w, h), _ in rows))
    _write_lines(
        root / "localization.txt",
        (f"{name},{x},{y},{x + w},{y + h}" for name, _, _, (x, y, w, h) in rows),
    )
