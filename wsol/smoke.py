"""What the notebooks fall back on: a tiny data set and tiny runs below runs/smoke, made in seconds.

The defaults of every notebook point there. Each asks for what it reads, so that any of them can be
opened first, and what is older than the library's code is made again, as `make` would. Paths
elsewhere are the user's or the pipeline's: they are never made here, only missed in plain words.

Imports are inside the functions: a stage of the pipeline makes nothing here, and must not seem to
depend on all that this module can do.
"""

import shutil
from pathlib import Path

from wsol import project_root

BIRDS = dict(n_train=40, n_fullsup=20, n_test=20, n_background=12)
TRAIN = dict(epochs=1, batch_size=20, background_batch=10, input_size=64, threads=1)
META = {"dataset": "birds"}


def _wanting(path: Path) -> bool:
    """Whether a file of the smoke run is to be made. Raises FileNotFoundError elsewhere."""
    if not _is_smoke(path):
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}; `dvc repro` makes what the pipeline has")
        return False
    sources = Path(__file__).parent.rglob("*.py")
    newest = max(source.stat().st_mtime for source in sources)
    return not path.exists() or path.stat().st_mtime < newest


def _is_smoke(path: Path) -> bool:
    """Whether a path lies below the folder of the smoke run."""
    return project_root() / "runs" / "smoke" in path.parents


def _evaluate(weights: Path, data: Path, **settings):
    from wsol.datasets.index import INDEX, read_index
    from wsol.evaluation.run import evaluate_run

    return evaluate_run(weights, read_index(data / INDEX), data, meta=META, **settings)


def ensure_data(root: Path) -> None:
    """Draw the smoke set if `root` lies below runs/smoke and is missing or out of date."""
    if _wanting(root / "index.csv"):
        from wsol.datasets.birds import BirdsConfig
        from wsol.datasets.prepare import prepare_birds

        prepare_birds(root, BirdsConfig(**BIRDS), workers=1)


def ensure_miniature(kind: str, part: Path) -> None:
    """Draw the miniature of a real data set around one of its folders, if that is wanting.

    kind : "cub", "ilsvrc", "openimages" or "folder", see `wsol.datasets.miniatures`
    part : a folder of the miniature, which takes all of the folder above

    What lies elsewhere is the user's and may be incomplete: the notebook says what is missing.
    """
    made = part.parent / "made"
    if _is_smoke(part.parent) and _wanting(made):
        from wsol.datasets import miniatures

        if made.is_file():  # no other folder is ours to replace
            shutil.rmtree(part.parent)
        getattr(miniatures, f"make_{kind}")(part.parent)
        made.touch()


def ensure_run(run: Path, data: Path, **settings) -> None:
    """Train the smoke run, a folder named <method>-<seed>, if it is missing or out of date.

    settings : of the training, in the place of those in `TRAIN`
    """
    ensure_data(data)
    if _wanting(run / "weights.safetensors"):
        from wsol.training.config import config_from
        from wsol.training.loop import train_from_disk

        method, _, seed = run.name.rpartition("-")
        values = TRAIN | settings | {"method": method, "seed": int(seed)}
        train_from_disk(config_from(values), data, run)


def ensure_background_pictures(folder: Path, data: Path) -> None:
    """Draw what somebody might have collected for a background set, if it is wanting.

    24 scenes, two exact copies, two near copies, one training image, and four that have a bird.
    """
    ensure_data(data)
    last = folder / "training-image.jpg"
    if _wanting(last):
        import shutil

        import numpy as np
        from PIL import Image

        from wsol.datasets.birds import SPECIES, background_picture, bird_picture
        from wsol.datasets.index import INDEX, read_index

        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        rng = np.random.default_rng(15)
        for i in range(24):
            Image.fromarray(background_picture(rng, 0.3).image).save(folder / f"scene-{i:02d}.jpg")
        for i in range(4):
            Image.fromarray(bird_picture(rng, SPECIES[i]).image).save(folder / f"scene-9{i}.jpg")
        for i in (3, 8):
            shutil.copyfile(folder / f"scene-{i:02d}.jpg", folder / f"scene-{i:02d}_again.jpg")
        for i in (5, 12):
            with Image.open(folder / f"scene-{i:02d}.jpg") as image:
                half = image.resize((image.width // 2, image.height // 2))
            half.save(folder / f"scene-{i:02d}_small.jpg", quality=60)
        index = read_index(data / INDEX)
        train = index.loc[index["split"] == "train-weaksup", "path"]
        shutil.copyfile(data / train.iloc[0], last)


def ensure_evaluation(folder: Path, run: Path, data: Path) -> None:
    """Evaluate the smoke run into folder/localization and folder/maps, if that is wanting."""
    ensure_run(run, data)
    if _wanting(folder / "localization" / f"{run.name}-class-test.npz"):
        result = _evaluate(run / "weights.safetensors", data, maps=folder / "maps")
        result.save_tables(folder / "localization", run.name)


def ensure_control(out: Path) -> None:
    """Draw, train and evaluate the smoke run of a control into `out`, if that is wanting."""
    if _wanting(out / "evaluate" / "cam-0-class-test.npz"):
        from wsol.controls import run_control
        from wsol.datasets.birds import BirdsConfig
        from wsol.training.config import config_from

        trainings = [config_from(TRAIN | {"method": method}) for method in ("cam", "background")]
        run_control(out.name, BirdsConfig(**BIRDS, gap=1.0), trainings, out)


def ensure_references(folder: Path, data: Path) -> None:
    """Evaluate the cheapest reference on the smoke set into `folder`, if that is wanting."""
    ensure_data(data)
    if _wanting(folder / "constant-box-test.npz"):
        from wsol.baselines.references import constant_box_maps, reference_tables, save_references
        from wsol.datasets.index import INDEX, read_index

        index = read_index(data / INDEX)
        maps, box = constant_box_maps(index)
        save_references(reference_tables("constant-box", maps, box, index, data, META), folder)


def ensure_ablation(folder: Path, data: Path, n_background: int) -> None:
    """Train and evaluate the smoke run of the ablation into `folder`, if that is wanting."""
    key = f"background-{n_background}"
    ensure_data(data)
    if _wanting(folder / f"{key}-class-test.npz"):
        from wsol.training.config import config_from
        from wsol.training.loop import train_from_disk

        run = folder.parent / "run"
        train_from_disk(config_from(TRAIN | {"method": "background"}), data, run, n_background)
        result = _evaluate(
            run / "weights.safetensors", data, kinds=("class",), n_background=n_background
        )
        result.save_tables(folder, key)
