"""Bytes of small runs, compared with those in golden.json: a refactoring changes none of them.

`python tests/test_golden.py` writes the file anew, which a deliberate change of results needs. The
bytes of a training depend on the processor, which PyTorch's capability names too coarsely. So
an entry carries the digest of a plain PyTorch computation, and the test skips where none fits.
"""

import hashlib
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
import torch

import wsol
from wsol.baselines.few_shot import FewShotConfig, evaluate_few_shot
from wsol.baselines.posthoc import evaluate_posthoc
from wsol.baselines.references import (
    centre_gaussian_maps,
    colour_distance_maps,
    constant_box_maps,
    patch_classifier_maps,
    reference_tables,
    save_references,
)
from wsol.datasets.birds import SPECIES, BirdsConfig, bird_image
from wsol.datasets.index import INDEX, read_index
from wsol.datasets.prepare import prepare_birds
from wsol.evaluation.compare import evaluate_protocols
from wsol.evaluation.run import evaluate_run
from wsol.inference.export import to_coco, to_csv
from wsol.methods import METHODS
from wsol.training.config import config_from
from wsol.training.loop import train_from_disk

GOLDEN = Path(__file__).with_name("golden.json")
SIZES = dict(n_train=40, n_fullsup=20, n_test=20, n_background=12)
TRAIN = dict(epochs=1, batch_size=20, background_batch=10, input_size=64, threads=1)
META = {"dataset": "birds"}


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """Name of this processor's arithmetic: the gradients of a small network that is not ours."""
    capability = f"{torch.backends.cpu.get_cpu_capability()} {torch.__version__.partition('+')[0]}"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolutions = [torch.nn.Conv2d(n, 32, 3, padding=1) for n in (3, 32, 32)]
        network = torch.nn.Sequential(*convolutions, torch.nn.AdaptiveAvgPool2d(1))
        network(torch.rand(20, 3, 64, 64)).exp().mean().backward()
    torch.set_num_threads(threads)
    gradients = b"".join(one.grad.numpy().tobytes() for one in network.parameters())
    return f"{capability} {hashlib.sha256(gradients).hexdigest()[:8]}"


def _trainings() -> dict[str, dict[str, object]]:
    plain = {name: {"method": name} for name in METHODS}
    combined = {
        f"background+{name}": {"method": "background", "combine": name}
        for name in ("has", "adl", "cutmix")
    }
    return plain | combined


def measure(folder: Path) -> dict[str, str]:
    """Digests by what was made: data, weights, tables, exported boxes."""
    data = folder / "birds"
    prepare_birds(data, BirdsConfig(**SIZES), workers=1)
    digests = {"birds": _digest(*sorted(file for file in data.rglob("*") if file.is_file()))}
    index = read_index(data / INDEX)
    for name, settings in _trainings().items():
        run = folder / "train" / name
        train_from_disk(config_from(TRAIN | settings | {"seed": 0}), data, run)
        digests[f"train/{name}"] = _digest(run / "weights.safetensors", run / "history.csv")
        tables = folder / "evaluate" / name
        evaluate_run(run / "weights.safetensors", index, data, meta=META).save_tables(tables, name)
        digests[f"evaluate/{name}"] = _digest(*sorted(tables.glob("*.npz")))
    cam = folder / "train" / "cam" / "weights.safetensors"
    kinds = ("gradcam-early", "gradcampp-middle", "layercam-late", "scorecam-late")
    evaluate_posthoc(cam, index, data, kinds, meta=META).save_tables(folder / "posthoc", "cam")
    few_shot = evaluate_few_shot(cam, index, data, FewShotConfig(epochs=2), meta=META)
    few_shot.evaluation.save_tables(folder / "few_shot", "few-shot")
    maps = {
        "constant-box": constant_box_maps(index),
        "centre-gaussian": centre_gaussian_maps(index),
        "colour-distance": colour_distance_maps(index, data, 64),
        "patch-classifier": patch_classifier_maps(index, data, 64, 4000, 0),
    }
    for name, (by_split, fitted) in maps.items():
        tables = reference_tables(name, by_split, fitted, index, data, META)
        save_references(tables, folder / "references")
    for name in ("posthoc", "few_shot", "references"):
        digests[name] = _digest(*sorted((folder / name).glob("*.npz")))
    protocols = [
        evaluate_protocols(folder / "train" / name / "weights.safetensors", index, data)
        for name in ("cam", "background")
    ]
    pd.concat(protocols).to_csv(folder / "protocols.csv", index=False)
    digests["protocols"] = _digest(folder / "protocols.csv")
    rng = np.random.default_rng(3)
    images = [bird_image(rng, SPECIES[i]).image for i in range(4)]
    boxes = [
        one
        for kind in ("class", "foreground", "product")
        for one in wsol.localize(images, wsol.published("birds/background-0"), map=kind, top=2)
    ]
    to_csv(boxes, folder / "boxes.csv")
    to_coco(boxes, folder / "boxes.json")
    digests["localize"] = _digest(folder / "boxes.csv", folder / "boxes.json")
    return digests


@pytest.mark.slow
def test_small_runs_have_the_recorded_bytes(tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    processor = _processor()
    if processor not in golden:
        pytest.skip(f"golden.json has no bytes of this processor and PyTorch: {processor}")
    digests, recorded = measure(tmp_path), golden[processor]
    assert {name for name in recorded if digests.get(name) != recorded[name]} == set()


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        measured = measure(Path(folder))
    known = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.is_file() else {}
    processor = _processor()
    changed = [n for n, digest in measured.items() if known.get(processor, {}).get(n) != digest]
    GOLDEN.write_text(json.dumps(known | {processor: measured}, indent=1) + "\n", encoding="utf-8")
    print(f"{GOLDEN.name}: {len(measured)} digests, changed: {', '.join(changed) or 'none'}")
    sys.exit(0)
