"""What a training costs, part by part: steps, batches, inference, and all of it on a GPU.

    python benchmarks/training.py [--out reports/tables/benchmark_training.csv] [--quick]

* step: every method against CAM on the same object images per step, taken in turns. The background
  method passes n_bg images more through the network: 1 + n_bg / n_objects is to be expected of it.
* loader: batches per second from the cache and from the files, against what the network takes.
* frozen: EfficientNet-Lite0 at 224 px, images trained per second with its frozen part computed in
  every step and from the cache of features, which is there already.
* inference: milliseconds per image of every backbone.
* gpu, where there is one: ResNet50 at 224 px in bf16, trained by `wsol train` from its cache,
  against the bare torchvision network stepping on a resident tensor in the same run.

Ratios belong to one run on one machine: compare ratios, not seconds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision
from PIL import Image

from wsol.datasets.images import ArrayImages, load_size, open_images
from wsol.evaluation.predict import predict_batch
from wsol.methods import METHODS, Batch, get_method
from wsol.training.batches import TrainData, epoch_batches
from wsol.training.config import Execution, TrainConfig
from wsol.training.loop import train
from wsol.training.optimizer import build_optimizer
from wsol.training.runs import build_network

BACKBONES = ("small16", "vgg16", "vgg16-28", "resnet50", "resnet50-28")
BACKBONES += ("inceptionv3", "inceptionv3-28", "deit-s", "efficientnet-lite0")
SMALL = dict(backbone="small16", input_size=96, batch_size=32, background_batch=16)
LARGE = dict(backbone="resnet50", input_size=224, batch_size=8, background_batch=4)
Row = dict[str, object]


def row(name: str, value: float, unit: str, ratio: float | None = None, to: str = "") -> Row:
    """One line of the table; `ratio` is to what `to` says."""
    found = {"name": name, "value": round(value, 3), "unit": unit}
    found |= {"ratio": None if ratio is None else round(ratio, 3), "ratio_to": to}
    print(found, flush=True)
    return found


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Time of one call, the device having finished."""
    begin = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def stepper(config: TrainConfig, batch: Batch, device: torch.device) -> Callable[[], None]:
    """One optimizer step on a resident batch."""
    method = get_method(config.method)
    network = build_network(config, 20).to(device).train()
    optimizer = build_optimizer(network, config)
    settings = method.Config(**config.method_config)

    def step() -> None:
        loss = method.losses(network, batch, settings)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def step_rows(
    name: str, sizes: dict, methods: Sequence[str], repeats: int, device: torch.device
) -> Iterator[Row]:
    """Median step times of the methods, CAM the first of them, one step of each in turn."""
    B, extra, L = sizes["batch_size"], sizes["background_batch"], sizes["input_size"]
    images, more = (torch.rand(n, 3, L, L, device=device) for n in (B, extra))
    images, more = (x.contiguous(memory_format=torch.channels_last) for x in (images, more))
    batch = Batch(images, torch.arange(B, device=device) % 20, more, 0.7)
    steps = {m: stepper(TrainConfig(method=m, **sizes), batch, device) for m in methods}
    times = {method: [] for method in steps}
    for _ in range(repeats + 2):
        for method, step in steps.items():
            times[method].append(seconds(step, device))
    found = {method: 1e3 * statistics.median(values[2:]) for method, values in times.items()}
    cam = found.pop("cam")
    yield row(f"step_{name}_cam", cam, "ms")
    for method, value in found.items():
        yield row(f"step_{name}_{method}", value, "ms", value / cam, f"step_{name}_cam")
    expected = 1 + extra / B
    ratio = found["background"] / cam / expected
    yield row(f"step_{name}_over_expected", ratio, "", None, f"{expected:g}")


def write_images(folder: Path, count: int, width: int, height: int) -> list[Path]:
    """JPEGs of a photograph's kind: smooth colours, some noise."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        pixels = (pixels + rng.integers(-12, 13, pixels.shape)).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{i}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


def batch_rate(config: TrainConfig, data: TrainData, workers: int, count: int) -> float:
    """Object images per second of the first batches of an epoch."""
    batches = epoch_batches(config, data, 0, execution=Execution(loader_workers=workers))
    next(batches)  # workers have started
    begin = time.perf_counter()
    made = sum(len(batch.images) for batch in islice(batches, count))
    return made / (time.perf_counter() - begin)


def loader_rows(
    name: str, sizes: dict, image: tuple[int, int], count: int, device: torch.device
) -> Iterator[Row]:
    """Batches of CAM from the cache and from files, against the steps of its network."""
    config = TrainConfig(method="cam", **sizes)
    B, L = config.batch_size, config.input_size
    images = torch.rand(B, 3, L, L, device=device).contiguous(memory_format=torch.channels_last)
    step = stepper(config, Batch(images, torch.arange(B, device=device) % 20, None, 0.5), device)
    network = B / statistics.median(seconds(step, device) for _ in range(8))
    yield row(f"network_{name}", network, "images/s")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder), count, *image)
        labels = torch.arange(count) % 20
        for kind, cache in (("files", None), ("cache", Path(folder) / "cache")):
            data = TrainData(open_images(paths, load_size(L), cache), labels, 20)
            for workers in (0, 2):
                rate = batch_rate(config, data, workers, count // B - 1)
                full = f"loader_{name}_{kind}_{workers}_workers"
                yield row(full, rate, "images/s", rate / network, f"network_{name}")


def frozen_rows(count: int, device: torch.device) -> Iterator[Row]:
    """CAM on a frozen backbone, an epoch of `count` images, and on one that is trained whole."""
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 224, 224), np.uint8)
    data = TrainData(ArrayImages(images), torch.arange(count) % 20, 20)
    settings = dict(backbone="efficientnet-lite0", weights="DEFAULT", input_size=224, epochs=1)
    whole = TrainConfig(method="cam", crop_grid=1, **settings)
    with tempfile.TemporaryDirectory() as folder:
        run, cached = Path(folder) / "run", Execution(device.type, cache=folder)
        rate = count / seconds(lambda: train(whole, data, run), device)
        yield row("frozen_none", rate, "images/s")
        for part in ("early", "all"):
            config = replace(whole, freeze=part)
            plain = count / seconds(lambda c=config: train(c, data, run), device)
            yield row(f"frozen_{part}_computed", plain, "images/s", plain / rate, "frozen_none")
            train(config, data, run, execution=cached)
            fast = seconds(lambda c=config: train(c, data, run, execution=cached), device)
            ratio = count / fast / plain
            to = f"frozen_{part}_computed"
            yield row(f"frozen_{part}_cache", count / fast, "images/s", ratio, to)


@torch.inference_mode()
def inference_rows(backbones: tuple[str, ...], batch: int, device: torch.device) -> Iterator[Row]:
    """CAM of every backbone at 224 px (small16: 96 px), from uint8 images to maps."""
    for name in backbones:
        size = 96 if name.startswith("small") else 224
        config = TrainConfig(method="cam", backbone=name, input_size=size)
        network = build_network(config, 200).to(device).eval()
        images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=device)
        call = lambda n=network, x=images: predict_batch(n, x)  # noqa: E731
        best = min(seconds(call, device) for _ in range(4))
        yield row(f"inference_{name}", 1e3 * best / batch, "ms/image")


def gpu_rows(
    device: torch.device, batch: int = 128, steps: int = 60, epochs: int = 6
) -> Iterator[Row]:
    """ResNet50 in bf16: `train` from a cache against a bare network on a resident tensor."""
    settings = dict(backbone="resnet50", input_size=224, batch_size=batch, optimizer="sgd")
    images = np.random.default_rng(0).integers(0, 256, (batch * steps, 3, 256, 256), np.uint8)
    data = TrainData(ArrayImages(images, "benchmark"), torch.arange(batch * steps) % 1000, 1000)
    config = TrainConfig(method="cam", epochs=epochs, threads=8, **settings)
    execution = Execution(device.type, precision="bf16", loader_workers=8, deterministic=False)
    bare = bare_rate(device, batch, steps)
    yield row("gpu_resnet50_bare", bare, "images/s")
    with tempfile.TemporaryDirectory() as run:
        elapsed = seconds(lambda: train(config, data, run, execution=execution), device)
    ours = epochs * batch * steps / elapsed
    yield row("gpu_resnet50_wsol", ours, "images/s", ours / bare, "gpu_resnet50_bare")
    yield row("gpu_memory", torch.cuda.max_memory_allocated(device) / 2**30, "GiB")


def bare_rate(device: torch.device, batch: int, steps: int) -> float:
    """Images per second of torchvision's ResNet50, whose last stage has stride 1 as ours."""
    network = torchvision.models.resnet50()
    network.layer4[0].conv2.stride = network.layer4[0].downsample[0].stride = (1, 1)
    network = network.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True)
    images = torch.rand(batch, 3, 224, 224, device=device).to(memory_format=torch.channels_last)
    labels = torch.arange(batch, device=device) % 1000

    def run(count: int) -> None:
        for _ in range(count):
            with torch.autocast(device.type, torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    run(5)
    return batch * steps / seconds(lambda: run(steps), device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("reports/tables/benchmark_training.csv"))
    parser.add_argument("--quick", action="store_true", help="small networks only, few repeats")
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(2)
    methods = sorted(METHODS, key=lambda method: method != "cam")
    rows = list(step_rows("small16", SMALL, methods, 5 if given.quick else 40, device))
    rows += loader_rows("small16", SMALL, (180, 140), 320 if given.quick else 1600, device)
    if not given.quick:
        rows += step_rows("resnet50", LARGE, ("cam", "background"), 6, device)
        rows += loader_rows("resnet50", LARGE, (500, 375), 400, device)
    rows += frozen_rows(32 if given.quick else 256, device)
    rows += inference_rows(BACKBONES[:1] if given.quick else BACKBONES, 8, device)
    if device.type == "cuda":
        rows += gpu_rows(device)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(given.out, index=False, lineterminator="\n")
    print(f"{given.out.as_posix()} written, on {device.type}")


if __name__ == "__main__":
    main()
