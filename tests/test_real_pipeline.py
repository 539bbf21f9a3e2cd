"""study/real/dvc.yaml as it stands, on miniatures of the real sets in their authors' formats."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import miniatures
import pandas as pd
import pytest
import yaml

from wsol.datasets.backgrounds.manifest import write_manifest
from wsol.datasets.birds import BirdsConfig, draw_birds
from wsol.evaluation.table import LocalizationTable
from wsol.notebook.parameters import load_yaml

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow

SETS = ("cub", "ilsvrc", "openimages")
RUNS = ("cam-0", "background-0")
PIPELINE = "study/real/dvc.yaml"
TINY = dict(backbone="small8", weights=None, input_size=32, epochs=1, batch_size=16, threads=1)
FOLDERS = {  # of the miniatures
    "cub": dict(raw="CUB_200_2011", fullsup="CUBV2", fullsup_images="CUBV2/images"),
    "ilsvrc": dict(raw="ILSVRC2012", fullsup="ImageNetV2", fullsup_images="ImageNetV2/images"),
    "openimages": dict(raw="OpenImages", metadata="OpenImages/metadata"),
}
ARCHIVES = dict(archives="archives", checksums="archives/MD5SUMS")


def _copy_project(project: Path) -> None:
    """What a clone would have, and what is not committed yet."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs Git, which knows the files of the project")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("reports/", "tests/")):
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project / name)
    # `make` writes this where there is no Git.
    (project / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")


def _edit(path: Path, change: Callable[[dict], object]) -> None:
    params = load_yaml(path.read_text(encoding="utf-8"))
    change(params)
    path.write_text(yaml.safe_dump(params), encoding="utf-8")


def _shrink(params: dict, dataset: str) -> None:
    """Change values of a params file; no name is new, none is left out."""
    params["train"] |= TINY
    params["background"]["background_batch"] = 4
    params["execution"]["common"] |= dict(device="cpu", loader_workers=0)
    params["execution"]["evaluate"]["workers"] = 1
    folders = FOLDERS[dataset] | (ARCHIVES if params["prepare"]["archives"] else {})
    raw = {name: f"data/raw/{dataset}/{below}" for name, below in folders.items()}
    params["prepare"] |= raw | dict(workers=1)


def _put_data(project: Path, dataset: str, images: Path) -> None:
    """The user's part: the data set, and images without objects and their manifest."""
    getattr(miniatures, f"make_{dataset}")(project / "data" / "raw" / dataset)
    background = project / "data" / dataset / "background"
    shutil.copytree(images, background, ignore=shutil.ignore_patterns("manifest.csv"))
    write_manifest(background, "drawn", "MIT")


def _run(project: Path, words: list[str], **variables: str) -> subprocess.CompletedProcess:
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(project),
        "DVC_SITE_CACHE_DIR": str(project / ".dvc" / "site"),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "",  # eighteen kernels import the same modules
    }
    return subprocess.run(
        words, cwd=project, env=environment | variables, capture_output=True, text=True, check=False
    )


def _dvc(project: Path, *words: str) -> str:
    done = _run(project, [sys.executable, "-m", "dvc", "--wait-for-lock", *words])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _stages(dataset: str) -> list[str]:
    """All stages of a data set with one seed, in order."""
    names = [f"prepare@{dataset}", f"train@{dataset}-cam-0"]
    names += [f"train_with_background@{dataset}-background-0"]
    names += [f"evaluate@{dataset}-{run}" for run in RUNS] + [f"report@{dataset}"]
    return [f"{PIPELINE}:{name}" for name in names]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, with all three sets reproduced side by side."""
    folder = tmp_path_factory.mktemp("real")
    project, birds = folder / "project", folder / "birds"
    draw_birds(birds, BirdsConfig(n_train=1, n_fullsup=1, n_test=1, n_background=8), workers=1)
    _copy_project(project)
    _edit(project / "study" / "params" / "real.yaml", lambda params: params.update(seeds=[0]))
    for dataset in SETS:
        _edit(
            project / "study" / "params" / f"{dataset}.yaml",
            lambda params, d=dataset: _shrink(params, d),
        )
        _put_data(project, dataset, birds / "background")
    _dvc(project, "repro", "notebook_code")
    with ThreadPoolExecutor(len(SETS)) as pool:
        list(pool.map(lambda d: _dvc(project, "repro", "--single-item", *_stages(d)), SETS))
    return project


def _table(project: Path, dataset: str, run: str, kind: str, split: str) -> LocalizationTable:
    folder = project / "runs" / "real" / dataset / "evaluate" / run / "localization"
    return LocalizationTable.load(folder / f"{run}-{kind}-{split}.npz")


@pytest.mark.parametrize("dataset", SETS)
def test_every_run_leaves_a_row_per_image_of_each_split(project: Path, dataset: str) -> None:
    index = pd.read_csv(project / "data" / dataset / "index.csv", keep_default_na=False)
    for run in RUNS:
        for split in ("train-fullsup", "test"):
            table = _table(project, dataset, run, "class", split)
            ids = index.loc[index["split"] == split, "image_id"]
            assert list(table.rows["image_id"]) == list(ids) != []
            assert table.meta["dataset"] == dataset
            assert table.meta["method"] == run.partition("-")[0]
    assert _table(project, dataset, "background-0", "class", "test").meta["n_background"] == "8"


@pytest.mark.parametrize("dataset", SETS)
def test_the_report_has_both_methods_their_tau_and_the_paired_difference(
    project: Path, dataset: str
) -> None:
    out = project / "reports" / dataset
    headline = pd.read_csv(out / "localization_error.csv").set_index("method")
    assert {"CAM", "Background images", "Background images: foreground map"} <= set(headline.index)
    errors = headline[["gt_known_loc_error_mean", "top1_loc_error_mean", "cls_error_mean"]]
    assert errors.apply(lambda column: column.between(0, 100)).all(axis=None)
    assert (headline["dataset"] == dataset).all()
    assert pd.read_csv(out / "per_run.csv")["tau"].between(0, 1).all()
    differences = pd.read_csv(out / "differences.csv")
    assert {"gt_known_loc_error", "top1_loc_error"} == set(differences["error"])
    assert (differences["low"] <= differences["high"]).all()
    text = (out / "localization_error.md").read_text(encoding="utf-8")
    assert "GT-known loc." in text
    assert "| Background images " in text


def test_what_sets_the_data_sets_apart_arrives_in_the_tables(project: Path) -> None:
    reports = {d: pd.read_csv(project / "reports" / d / "per_run.csv") for d in SETS}
    assert reports["openimages"]["pxap"].between(0, 100).all()
    assert reports["ilsvrc"]["pxap"].isna().all()  # it has no masks
    boxes = _table(project, "ilsvrc", "cam-0", "class", "test").level_boxes.truth_counts
    assert set(boxes) == {1, 2}


def test_the_cache_holds_the_trainings_and_nothing_of_the_data(project: Path) -> None:
    cached = {path.name for path in (project / ".dvc" / "cache" / "files").rglob("*")}
    locked = yaml.safe_load((project / "study" / "real" / "dvc.lock").read_text(encoding="utf-8"))
    for name, stage in locked["stages"].items():
        for out in stage["outs"]:
            assert (out["md5"][2:] in cached) == name.startswith("train"), out["path"]


def test_a_task_of_the_slurm_array_takes_the_run_of_its_number(project: Path) -> None:
    def task(number: int) -> subprocess.CompletedProcess:
        words = ["bash", "docs/slurm_array.sh", "cub"]
        return _run(project, words, SLURM_ARRAY_TASK_ID=str(number), DRY="1")

    runs = [f"{PIPELINE}:{stage}@cub-cam-0" for stage in ("train", "evaluate")]
    assert task(0).stdout.split() == ["dvc", "repro", "-s", *runs]
    assert "train_with_background@cub-background-0" in task(1).stdout
    assert task(2).returncode == 2
    assert "cub has 2 runs, give sbatch --array=0-1" in task(2).stderr


def test_execution_makes_nothing_stale_and_new_background_images_one_method(project: Path) -> None:
    target = f"{PIPELINE}:report@cub"
    eight = dict(processes=8, precision="bf16")
    _edit(
        project / "study" / "params" / "cub.yaml", lambda p: p["execution"]["common"].update(eight)
    )
    assert "Running stage" not in _dvc(project, "repro", "--dry", target)
    background = project / "data" / "cub" / "background"
    next(background.glob("*.jpg")).unlink()
    write_manifest(background, "drawn", "MIT")
    would_run = _dvc(project, "repro", "--dry", target)
    assert "train_with_background@cub-background-0' didn't change" not in would_run
    assert "train@cub-cam-0' didn't change, skipping" in would_run
    assert "evaluate@cub-cam-0' didn't change, skipping" in would_run
