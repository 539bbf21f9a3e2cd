"""Unusual and damaged files, tables and weights: the right value, or one sentence that says why."""

import contextlib
import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from click.testing import CliRunner
from dataset_files import errors_of, noise_image
from killing import kill_while
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.torch import save_file
from torch import nn

import wsol as wsol_package
from wsol.backbones import build_backbone
from wsol.backbones.parts import read_weights
from wsol.cli import main
from wsol.datasets import arrays, files, prepare, smoke
from wsol.datasets.backgrounds.build import build_background_set, from_folder
from wsol.datasets.backgrounds.manifest import read_manifest, write_manifest
from wsol.datasets.backgrounds.web import is_public
from wsol.datasets.checks import SHOWN, DatasetError
from wsol.datasets.files import (
    MADE,
    PARTIAL,
    check_writable,
    new_folder,
    replace_folder,
    written_folder,
)
from wsol.datasets.folder import read_folder
from wsol.datasets.index import INDEX, read_index
from wsol.datasets.prepare import Plan, prepare_background, prepare_birds
from wsol.evaluation.heatmaps import read_predictions
from wsol.evaluation.predict import predict_split
from wsol.evaluation.table import LocalizationTable
from wsol.inference import export
from wsol.inference.export import localize_to_folder, to_coco, to_csv, to_yolo
from wsol.inference.localize import Detection
from wsol.inference.settings import box_settings, class_names
from wsol.training import FOLDER
from wsol.training.config import TrainConfig
from wsol.training.runs import FILES, WEIGHTS, build_network, load_network, write_run

W, H = 40, 30  # of all images
RUN = "birds/cam-0"  # of the package
NAMES = [f"{split}/{name}/0.png" for split in ("train", "val", "test") for name in "ab"]
RESULT = ("image_id", "category_id", "bbox", "score")  # of COCO's format of results
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of six images of two classes in three splits."""
    for seed, name in enumerate(NAMES):
        noise_image(tmp_path / "photos" / name, (W, H), seed)
    return tmp_path / "photos"


def wsol(*words: object):
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="wsol")


def detection(image: str, label: int, box: tuple, rank: int = 1) -> Detection:
    return Detection(image, W, H, rank, label, "ab"[label], 0.5, np.array(box, float), None)


# --- writers


def _text(path: Path) -> None:
    files.write_text(path, "new" * 10_000)


def _table(path: Path) -> None:
    files.write_table(pd.DataFrame({"new": range(10_000)}), path)


def _coco(path: Path) -> None:
    to_coco([detection("a.png", 0, (1, 2, 3, 4))], path)


def _csv(path: Path) -> None:
    to_csv([detection("a.png", 0, (1, 2, 3, 4))], path)


def _figure(path: Path) -> None:
    from matplotlib.figure import Figure

    from wsol.report.figures import save

    save(Figure(figsize=(1, 1)), path)


WRITERS = [_text, _table, _coco, _csv, _figure]
LONG = ["x" * 255, "x" * 248, "ü" * 127, "x" * 251 + ".csv"]  # 255, 248, 254 and 255 bytes


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", LONG, ids=lambda name: f"{len(name.encode())} bytes")
def test_a_name_of_255_bytes_is_written(tmp_path: Path, write, name: str) -> None:
    write(tmp_path / "new" / name)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_is_named(tmp_path: Path, write, monkeypatch) -> None:
    path = tmp_path / "boxes.json"
    path.write_text("old")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/boxes\.json'"):
        write(path)
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["boxes.json"]


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no tmpfs may be mounted here")
    try:
        (small / "a.txt").write_text("old")
        for write in (_text, _table):
            with pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'"):
                write(small / "a.txt")
            assert [path.read_text() for path in small.iterdir()] == ["old"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("call", ["write", "replace", "flush"])
@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_an_error_at_any_call_leaves_the_old_folder_or_the_new(
    tmp_path: Path, monkeypatch, call: str, after: int
) -> None:
    out = tmp_path / "set"
    with written_folder(out, marked=True) as new:
        (new / "a.txt").write_text("old")
    count = [after]
    rename = Path.rename

    def failing(self, target):
        count[0] -= 1
        if count[0] < 0 and call == "replace":
            raise OSError(errno.EIO, "injected")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with contextlib.suppress(OSError), written_folder(out, marked=True) as new:
        (new / "a.txt").write_text("new")
        if call == "write":
            raise OSError(errno.EIO, "injected")
    monkeypatch.undo()
    found = [path.read_text() for path in tmp_path.glob("set*/a.txt")]
    assert found  # at no moment are both gone
    with written_folder(out, marked=True) as new:  # and the next call gets over what is left
        (new / "a.txt").write_text("newest")
    assert (out / "a.txt").read_text() == "newest"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


_ENDLESS = """
import sys
from pathlib import Path
from wsol.datasets import files
path = Path(sys.argv[1])
for i in range(10**9):
    files.write_text(path, f"{i}\\n" * 100_000)
    with files.written_folder(path.with_name("set"), marked=True) as new:
        for name in "abc":
            files.write_text(new / name, f"{i}")
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_leaves_a_whole_file_and_a_whole_folder(tmp_path: Path, seed: int) -> None:
    path, folder = tmp_path / "a.txt", tmp_path / "set"
    kill_while([sys.executable, "-c", _ENDLESS, str(path)], folder.is_dir, seed)
    lines = path.read_text().splitlines()
    assert len(lines) == 100_000
    assert len(set(lines)) == 1
    if not folder.exists():  # killed between two renames: the old and the new one are beside it
        folder = tmp_path / "set.new"
    assert len({(folder / name).read_text() for name in "abc"}) == 1
    with written_folder(tmp_path / "set", marked=True) as new:
        (new / "a").write_text("next")
    files.write_text(path, "next")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "set"]


def test_many_writers_of_one_file_leave_one_of_theirs(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def write(i: int) -> None:
        for _ in range(20):
            files.write_text(path, f"{i}" * 50_000)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(path.read_text())) == 1
    assert len(path.read_text()) == 50_000
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def test_a_link_in_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / f"a.txt{PARTIAL}").symlink_to("mine")
    with pytest.raises(OSError, match="symbolic links"):
        files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "mine").read_text() == "mine"


# --- outputs are tried first


NOT_WRITABLE = {
    "a folder": ("folder", "Is a directory"),
    "below a file": ("file/x.json", "Not a directory|File exists"),
    "too long": ("x" * 256, "File name too long"),
    "in /proc": ("/proc/none/x.json", "No such file"),
}


@pytest.mark.parametrize(("path", "reason"), NOT_WRITABLE.values(), ids=NOT_WRITABLE)
def test_what_cannot_be_written_is_refused_at_once(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"{Path(path).name} cannot be written: .*({reason})"):
        check_writable(tmp_path / path)


def test_a_read_only_folder_is_refused_at_once(tmp_path: Path, monkeypatch) -> None:
    def denied(*args: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "x")

    monkeypatch.setattr(files.os, "open", denied)  # root may write anywhere
    with pytest.raises(PermissionError, match=r"a\.csv cannot be written: Permission denied"):
        check_writable(tmp_path / "a.csv")


def test_a_check_leaves_no_file_and_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("old")
    check_writable(tmp_path / "a.csv", tmp_path / "new/folder/b.csv")
    assert (tmp_path / "a.csv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.csv", "new"]


COMMANDS = {
    "localize": f"localize {RUN} photos --out file",
    "localize below a file": f"localize {RUN} photos --out file/out",
    "train": "train --data photos --out file --set method=cam",
    "prepare": "prepare folder photos file/out",
    "birds": "prepare birds file/out",
    "birds over others": "prepare birds photos",
    "background": "background folder file/set photos --source me --licence CC0",
    "json": "evaluate maps --metadata none --json file/x.json",
    "table": "evaluate maps --metadata none --table file/x.csv",
    "yolo over others": f"localize {RUN} photos --out own --yolo",
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_refuses_its_output_in_one_line(root: Path, monkeypatch, words: str) -> None:
    monkeypatch.chdir(root.parent)
    monkeypatch.setattr(export, "iterate_images", lambda *_, **__: pytest.fail("worked first"))
    Path("file").touch()
    noise_image(Path("own/labels/mine.png"))
    result = wsol(*words.split())
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert len(result.stderr.strip().splitlines()) == 1 or "Usage" in result.stderr
    assert any(name in result.stderr for name in ("file", "photos", "own/labels"))
    assert Path("own/labels/mine.png").is_file()
    assert len(list(root.rglob("*.png"))) == len(NAMES)


def test_what_can_be_written_is_kept_where_one_file_cannot(root, tmp_path, monkeypatch) -> None:
    found = [detection((root / NAMES[0]).as_posix(), 0, (1, 2, 3, 4))]
    monkeypatch.setattr(export, "iterate_images", lambda *_, **__: iter(found))

    def full(*args: object, **options: object) -> None:
        raise FULL

    monkeypatch.setattr(export, "to_csv", full)
    with pytest.raises(OSError, match="No space left"):
        localize_to_folder([root], RUN, tmp_path / "out", yolo=True)
    assert json.loads((tmp_path / "out/boxes.coco.json").read_text())["annotations"]
    assert (tmp_path / "out/labels" / NAMES[0]).with_suffix(".txt").is_file()


def test_a_run_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch) -> None:
    config = TrainConfig("cam", backbone="small8", input_size=32)
    network, data = (
        build_network(config, 3),
        type("Data", (), dict(num_classes=3, class_names="abc")),
    )
    write_run(tmp_path / "run", config, network, data, [{"loss": 1.0}], {})
    before = {name: (tmp_path / "run" / name).read_bytes() for name in FILES}
    for failing in ("save_file", "json.dumps"):
        with monkeypatch.context() as patch:
            patch.setattr(
                f"wsol.training.runs.{failing}", lambda *_, **__: (_ for _ in ()).throw(FULL)
            )
            with pytest.raises(OSError, match="No space left"):
                write_run(tmp_path / "run", config, network, data, [{"loss": 2.0}], {})
        assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


# --- folders


def _photos(folder: Path) -> Path:
    noise_image(folder / "holiday.png")
    return folder


def _replace(out: Path) -> None:
    replace_folder(new_folder(out.parent / "work"), out)


def _marked(out: Path) -> None:
    with written_folder(out):
        pass


def _background(out: Path, **options: bool) -> None:
    noise_image(out.parent / "moor/1.png")
    build_background_set(from_folder(out.parent / "moor", "me", "CC0"), out, **options)


def _background_replaced(out: Path) -> None:
    _background(out, replace=True)


def _described(out: Path) -> None:
    """Images of the user with a manifest: no set that was made here."""
    write_manifest(out, "me", "CC0")
    _background(out, replace=True)


def _birds(out: Path) -> None:
    prepare_birds(out, None)


def _predictions(out: Path) -> None:
    predict_split(out / "no-weights", pd.DataFrame({"split": ["test"]}), out, out)


def _yolo(out: Path) -> None:
    to_yolo([detection("a.png", 0, (1, 2, 3, 4))], out)


def _beside(suffix: str):
    def call(out: Path) -> None:
        shutil.move(out, out.with_name(f"set.{suffix}"))
        _marked(out.with_name("set"))

    call.__name__ = suffix
    return call


DELETERS = [_replace, _marked, _background, _background_replaced, _described, _birds]
DELETERS += [_predictions, _yolo, _beside(PARTIAL[1:]), _beside("old"), _beside("new")]


@pytest.mark.parametrize("call", DELETERS, ids=lambda call: call.__name__)
def test_a_folder_of_the_user_is_never_deleted(tmp_path: Path, call) -> None:
    before = _photos(tmp_path / "mine") / "holiday.png"
    content = before.read_bytes()
    with pytest.raises(FileExistsError, match="remove it, or name another"):
        call(tmp_path / "mine")
    (after,) = tmp_path.rglob("holiday.png")
    assert after.read_bytes() == content


@pytest.mark.parametrize("kind", ["miniature", "background"])
def test_images_of_the_user_below_runs_smoke_stay(tmp_path: Path, monkeypatch, kind: str) -> None:
    monkeypatch.setattr(smoke, "project_root", lambda: tmp_path)
    monkeypatch.setattr(smoke.runpy, "run_path", lambda _: pytest.fail("drawn over the user's"))
    mine = _photos(tmp_path / "runs/smoke/mine")
    if kind == "miniature":
        smoke.ensure_miniature("cub", mine / "CUB")
    else:
        smoke.ensure_background_images(mine, tmp_path)
    assert [path.name for path in mine.iterdir()] == ["holiday.png"]


def test_a_set_with_a_file_of_the_user_is_not_replaced(tmp_path: Path) -> None:
    _background(tmp_path / "set")
    _background(tmp_path / "set", replace=True)
    (tmp_path / "set/notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds files of others"):
        _background(tmp_path / "set", replace=True)
    assert (tmp_path / "set/notes.txt").read_text() == "mine"


def test_a_deletion_that_was_killed_is_done_again(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "work")
    (folder / "a").mkdir()
    assert [p.name for p in new_folder(folder).iterdir()] == [MADE]


def test_a_folder_of_another_disk_is_moved(tmp_path: Path, monkeypatch) -> None:
    rename = Path.rename
    new = new_folder(tmp_path / "work")
    noise_image(new / "deep/a.png")

    def across(self, target):
        if self == new:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", across)
    replace_folder(new, tmp_path / "out")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png")] == [
        "out/deep/a.png"
    ]
    assert not new.exists()


@pytest.mark.parametrize("linked", ["out", "raw", "both", "class"])
def test_an_index_behind_links_leads_to_its_images(root: Path, tmp_path: Path, linked: str) -> None:
    far = tmp_path / "far/away/disk"
    far.mkdir(parents=True)
    out = tmp_path / "out"
    if linked in ("out", "both"):
        out.symlink_to(far, target_is_directory=True)
    if linked in ("raw", "both"):
        root.rename(far / "raw")
        root.symlink_to(far / "raw", target_is_directory=True)
    if linked == "class":
        (root / "train/a").rename(far / "a")
        (root / "train/a").symlink_to(far / "a", target_is_directory=True)
    assert prepare.prepare(Plan("folder", root, out)).empty
    index = read_index(out / INDEX)
    assert all((out / path).is_file() for path in index["path"])
    assert len(index) == len(NAMES)


def test_an_index_that_would_lead_nowhere_is_not_written(root, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(prepare, "relative", lambda path, out: f"../nowhere/{path.name}")
    (error, *_) = prepare.prepare(Plan("folder", root, tmp_path / "out"))["error"]
    assert "would lead nowhere" in error
    assert not (tmp_path / "out" / INDEX).exists()


# --- outputs that are inputs


def test_overlays_of_an_earlier_call_are_not_localized(root: Path, tmp_path: Path) -> None:
    options = dict(overlays=True, tau=0.5)
    for out in ("mine", "mine", "other"):
        done = localize_to_folder([root], RUN, root / out, **options)
        assert len(done.detections) == len(NAMES)
        assert len(list((root / out / "overlays").glob("*.jpg"))) == len(NAMES)
    reasons = sorted(line.rpartition(": ")[2] for line in done.skipped)
    others = ["1 files of type .csv", "1 files of type .json", "1 hidden files"]
    assert reasons == [*others, "overlays that wsol drew"]
    done = localize_to_folder([root / "mine/overlays"], RUN, tmp_path / "out", tau=0.5)
    assert len(done.detections) == len(NAMES)  # when one asks for them


def test_fewer_overlays_replace_more(root: Path, tmp_path: Path) -> None:
    for images_of in ([root], [root / NAMES[0]]):
        localize_to_folder(images_of, RUN, tmp_path / "out", overlays=True, tau=0.5)
    assert len(list((tmp_path / "out/overlays").glob("*.jpg"))) == 1


def test_an_image_of_a_name_of_255_bytes_gets_an_overlay(tmp_path: Path) -> None:
    noise_image(tmp_path / "in" / ("ü" * 125 + ".png"), (W, H))
    localize_to_folder([tmp_path / "in"], RUN, tmp_path / "out", overlays=True, yolo=True, tau=0.5)
    assert len(list((tmp_path / "out/overlays").glob("00001-ü*.jpg"))) == 1


def test_a_second_preparation_with_a_background_set_works(root: Path, tmp_path: Path) -> None:
    noise_image(tmp_path / "moor/1.png")
    noise_image(tmp_path / "moor/2.png", seed=7)
    words = ["prepare", "folder", root, tmp_path / "out", "--background", tmp_path / "moor"]
    for count in (2, 2, 1):
        result = wsol(*words, "--source", "me", "--licence", "CC0")
        assert result.exit_code == 0, result.output
        assert f"{count} background images" in result.output
        if (tmp_path / "again").exists():
            (tmp_path / "moor/2.png").unlink(missing_ok=True)
        (tmp_path / "again").touch()
    noise_image(tmp_path / "elsewhere/3.png", seed=9)
    more = from_folder(tmp_path / "elsewhere", "me", "CC0")
    build_background_set(more, tmp_path / "out/background", add=True)
    with pytest.raises(FileExistsError, match="is there already"):  # which would be lost
        prepare_background(tmp_path / "out", [tmp_path / "moor"], "me", "CC0")


_BUILD = """
import sys
from pathlib import Path
from wsol.datasets.prepare import prepare_background
print(prepare_background(Path(sys.argv[1]), [Path(sys.argv[2])], "me", "CC0"))
"""


def test_two_builds_at_once_do_not_clash(tmp_path: Path) -> None:
    for seed in range(6):
        noise_image(tmp_path / f"moor/{seed}.png", seed=seed)
    command = [sys.executable, "-c", _BUILD, str(tmp_path / "out"), str(tmp_path / "moor")]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    codes = [(child.communicate()[0].strip(), child.returncode) for child in children]
    assert codes.count((b"6", 0)) >= 1
    assert len(read_manifest(tmp_path / "out/background")) == 6
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["background"]


# --- boxes


def coco(**changes: object) -> dict:
    """An annotation tool's file: 0-based ids, nested paths, other keys, boxes of floats."""
    content = {
        "info": {"contributor": "Label Studio"},
        "licenses": [],
        "images": [
            {"id": i, "file_name": name, "width": W, "height": H, "coco_url": "", "license": 0}
            for i, name in enumerate(NAMES)
        ],
        "categories": [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate("ab")],
        "annotations": [
            dict(id=i, image_id=i, category_id=i % 2, bbox=[1.25, 2.0, 10.5, 20.0])
            | dict(segmentation=[], area=210.0, iscrowd=0, attributes={"occluded": False})
            for i in range(len(NAMES))
        ],
    }
    return content | changes


def changed(list_name: str, **changes: object) -> dict:
    """The same with other values in all entries of one list."""
    content = coco()
    for i, entry in enumerate(content[list_name]):
        entry |= {key: value(i) if callable(value) else value for key, value in changes.items()}
        for key in [key for key, value in changes.items() if value is None]:
            del entry[key]
    return content


READ = {
    "as a tool writes it": coco(),
    "text ids": changed("annotations", image_id=str, category_id=lambda i: str(i % 2)),
    "float ids": changed("annotations", image_id=float),
    "no ids of annotations": changed("annotations", id=None),
    "no segmentation": changed("annotations", segmentation=None),
    "no crowd flag": changed("annotations", iscrowd=None),
    "crowd flag is text": changed("annotations", iscrowd="0"),
    "crowd flag is false": changed("annotations", iscrowd=False),
    "crowd flag is empty": changed("annotations", iscrowd=lambda i: None),
    "numbers as text": changed("annotations", bbox=lambda i: ["1.25", "2", "10.5", "20"]),
    "sizes are floats": changed("images", width=float(W), height=float(H)),
    "sizes are text": changed("images", width=str(W), height=str(H)),
    "sizes are null": changed("images", width=lambda i: None),
    "no sizes": changed("images", width=None, height=None),
    "another folder in front": changed("images", file_name=lambda i: f"/data/upload/{NAMES[i]}"),
    "a dot in front": changed("images", file_name=lambda i: f"./{NAMES[i]}"),
    "backslashes": changed("images", file_name=lambda i: NAMES[i].replace("/", "\\")),
    "polygons": changed("annotations", segmentation=lambda i: [[1, 2, 11, 2, 11, 22]]),
}


@pytest.mark.parametrize("content", READ.values(), ids=READ)
def test_coco_of_tools_is_read(root: Path, tmp_path: Path, content: dict) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    index = read_folder(root, tmp_path / "boxes.json")
    assert set(index["boxes"]) == {"1.25 2 11.75 22"}


REFUSED = {
    "crowd": (changed("annotations", iscrowd=1), "no box in it"),
    "crowd as text": (changed("annotations", iscrowd="1"), "no box in it"),
    "nothing annotated": (coco(annotations=[]), "no box in it"),
    "no list": (coco(images={}), "no list of images"),
    "a list of results": ([], "no list of images"),
    "an id that is a list": (changed("images", id=lambda i: [i]), "needs an id and a file_name"),
    "an id that is true": (changed("images", id=True), "needs an id and a file_name"),
    "a name that is a number": (changed("images", file_name=7), "needs an id and a file_name"),
    "a name that is null": (changed("categories", name=lambda i: None), "an id and a name"),
    "the same id as text": (changed("images", id=lambda i: "0" if i else 0), "duplicate id 0"),
    "no box": (changed("annotations", bbox=None), "malformed"),
    "an empty box": (changed("annotations", bbox=lambda i: []), "malformed"),
    "a box of null": (changed("annotations", bbox=lambda i: [None] * 4), "malformed"),
    "a box that is infinite": (
        changed("annotations", bbox=lambda i: [0, 0, 1e999, 1]),
        "malformed",
    ),
    "a crowd flag that is none": (changed("annotations", iscrowd="maybe"), "malformed"),
    "an annotation that is a text": (coco(annotations=["x"]), "malformed"),
    "other folders in front": (
        changed("images", file_name=lambda i: f"{i}/{NAMES[i]}"),
        "is not in the folder",
    ),
    "another size": (changed("images", width=41), "is listed with 41 x 30 pixels and has 40 x 30"),
    "a number of 5,000 digits": ('{"images": ' + "1" * 5000 + "}", "no JSON that can be read"),
    "a thousand brackets": ("[" * 100_000, "no JSON that can be read"),
    "cut off": ('{"images": [', "no JSON"),
    "empty": ("", "no JSON"),
    "not UTF-8": (b"\xff\xfe{\x00}\x00", "cannot be read"),
}


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED)
def test_coco_that_cannot_be_right_is_refused(root, tmp_path, content, reason: str) -> None:
    path = tmp_path / "boxes.json"
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert any(reason in error for error in errors_of(read_folder, root, path))


BOX = "1,2,11,22"
CSV = {
    "plain": ("image,x0,y0,x1,y1", "{name}," + BOX),
    "other order": ("x0,y0,x1,y1,image", BOX + ",{name}"),
    "more columns": ("image,x0,y0,x1,y1,note", "{name}," + BOX + ',"a, b"'),
    "a mark of UTF-8": ("\ufeffimage,x0,y0,x1,y1", "{name}," + BOX),
    "Windows": ("image,x0,y0,x1,y1\r", "{name}," + BOX + "\r"),
    "another folder": ("image,x0,y0,x1,y1", "photos/{name}," + BOX),
}


@pytest.mark.parametrize(("header", "line"), CSV.values(), ids=CSV)
def test_csv_is_read(root: Path, tmp_path: Path, header: str, line: str) -> None:
    text = "\n".join([header, *(line.format(name=name) for name in NAMES), ""])
    (tmp_path / "boxes.csv").write_text(text, encoding="utf-8")
    assert set(read_folder(root, tmp_path / "boxes.csv")["boxes"]) == {"1 2 11 22"}


BAD_CSV = {
    "semicolons": ("image;x0;y0;x1;y1\n", "with commas between them"),
    "a column missing": ("image,x0,y0,x1\n", "the first line must be"),
    "a column twice": ("image,x0,y0,x1,y1,x0\n", "the first line must be"),
    "a field of 200 kB": (f"image,x0,y0,x1,y1\n{'x' * 200_000},1,2,3,4\n", "no CSV"),
    "a field too many": (f"image,x0,y0,x1,y1\n{NAMES[0]},1,2,3,4,5\n", "malformed line"),
    "a decimal comma": (f'image,x0,y0,x1,y1\n{NAMES[0]},"1,5",2,3,4\n', "malformed line"),
}


@pytest.mark.parametrize(("text", "reason"), BAD_CSV.values(), ids=BAD_CSV)
def test_csv_that_cannot_be_right_is_refused(root, tmp_path, text: str, reason: str) -> None:
    (tmp_path / "boxes.csv").write_text(text)
    assert any(reason in e for e in errors_of(read_folder, root, tmp_path / "boxes.csv"))


# --- round trips


def found(root: Path) -> list[Detection]:
    """Detections as `iterate_images` gives them: two ranks, and one image without a box."""
    paths = [(root / name).as_posix() for name in NAMES]
    firsts = [detection(p, "ab".index(Path(p).parent.name), (1, 2, 11.5, 22)) for p in paths]
    firsts[0] = firsts[0]._replace(box=np.full(4, np.nan))
    others = [
        one._replace(rank=2, label=1 - one.label, class_name="ba"[one.label]) for one in firsts
    ]
    return [one for pair in zip(firsts, others, strict=True) for one in pair]


def expected(index: pd.DataFrame) -> bool:
    boxes = index.set_index("image_id")["boxes"]
    return boxes[NAMES[0]] == "" and set(boxes[NAMES[1:]]) == {"1 2 11.5 22"}


@pytest.mark.parametrize("given", ["absolute", "relative", "from above"])
def test_our_csv_and_coco_are_read_again(root, tmp_path, monkeypatch, given: str) -> None:
    monkeypatch.chdir(root if given == "relative" else root.parent)
    base = {"absolute": root, "relative": Path(), "from above": Path("photos")}[given]
    detections = found(base)
    to_csv(detections, tmp_path / "boxes.csv")
    assert expected(read_folder(root, tmp_path / "boxes.csv"))
    firsts = [one for one in detections if one.rank == 1]
    for start in (None, base):
        to_coco(firsts, tmp_path / "boxes.json", start)
        assert expected(read_folder(root, tmp_path / "boxes.json"))


def test_pycocotools_reads_our_coco_and_gives_its_own_boxes(root: Path, tmp_path: Path) -> None:
    written = found(root)
    to_coco(written, tmp_path / "boxes.json", root)
    truth = COCO(tmp_path / "boxes.json")
    boxed = [one for one in written if one.has_box]
    annotations = truth.loadAnns(truth.getAnnIds())
    assert [truth.imgs[one["image_id"]]["file_name"] for one in annotations] == [
        Path(one.image).relative_to(root).as_posix() for one in boxed
    ]
    assert [truth.cats[one["category_id"]]["name"] for one in annotations] == [
        one.class_name for one in boxed
    ]
    for annotation, one in zip(annotations, boxed, strict=True):
        x0, y0, w, h = annotation["bbox"]
        assert [x0, y0, x0 + w, y0 + h] == pytest.approx([*one.box])
        assert annotation["area"] == pytest.approx(w * h)
        pixels = truth.annToMask(annotation)
        assert pixels.shape == (H, W)
        assert pixels.sum() == pytest.approx(w * h, abs=h)
    results = truth.loadRes([{k: one[k] for k in RESULT} for one in annotations])
    evaluation = COCOeval(truth, results, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)  # average precision


def test_yolo_comes_back_as_the_boxes(root: Path, tmp_path: Path) -> None:
    detections = found(root)
    to_yolo(detections, tmp_path / "labels", root)
    assert (tmp_path / "labels/classes.txt").read_text().splitlines() == ["a", "b"]
    for path, of in {name: detections[2 * i : 2 * i + 2] for i, name in enumerate(NAMES)}.items():
        lines = (tmp_path / "labels" / path).with_suffix(".txt").read_text().splitlines()
        assert len(lines) == sum(one.has_box for one in of)
        for line, one in zip(lines, of, strict=False):
            label, *numbers = line.split()
            cx, cy, w, h = np.array(numbers, float) * [W, H, W, H]
            assert int(label) == one.label
            box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            assert box == pytest.approx(one.box, abs=1e-4)


YOLO_NAMES = {
    "the same name with another suffix": (["a/0.jpg", "a/0.png"], "would both get"),
    "the same name elsewhere": (["/x/0.jpg", "/y/0.jpg"], "would both get"),
    "the name of the list": (["classes.jpg"], "would both get classes.txt"),
}


@pytest.mark.parametrize(("names", "reason"), YOLO_NAMES.values(), ids=YOLO_NAMES)
def test_two_images_never_share_a_text(tmp_path: Path, names: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_yolo([detection(name, 0, (1, 2, 3, 4)) for name in names], tmp_path / "labels", ".")
    assert not (tmp_path / "labels").exists()


def test_the_command_writes_yolo_twice(root: Path, tmp_path: Path) -> None:
    for _ in range(2):
        words = ["localize", RUN, root, "--out", tmp_path / "out", "--tau", 0.5, "--yolo"]
        result = wsol(*words)
        assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out/labels").rglob("0.txt"))) == len(NAMES)


# --- weights


@pytest.fixture(scope="module")
def vgg() -> nn.Module:
    return torchvision.models.vgg16(num_classes=1000)


@pytest.fixture(scope="module")
def resnet() -> dict[str, torch.Tensor]:
    return torchvision.models.resnet50().state_dict()


WRAPPED = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"epoch": 3, "state_dict": s},
    "model": lambda s: {"model": s, "optimizer": {}},
    "model_state_dict": lambda s: {"model_state_dict": s},
    "two wrappers": lambda s: {"model": {"state_dict": s}},
    "module.": lambda s: {f"module.{k}": v for k, v in s.items()},
    "state_dict and module.": lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
    "compiled": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "Lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}},
    "module.model.": lambda s: {f"module.model.{k}": v for k, v in s.items()},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("name", ["f.pth", "f.safetensors", "f"])
def test_wrapped_weights_are_read(tmp_path: Path, wrap, name: str) -> None:
    state = {"conv.weight": torch.rand(2, 3), "fc.bias": torch.rand(4)}
    torch.save(wrap(state), tmp_path / name)
    read = read_weights(tmp_path / name)
    assert list(read) == list(state)
    assert all(torch.equal(read[key], state[key]) for key in state)


def test_safetensors_are_read_under_any_name(tmp_path: Path) -> None:
    save_file({"module.a": torch.ones(2)}, tmp_path / "f.pth")
    assert list(read_weights(tmp_path / "f.pth")) == ["a"]


@pytest.mark.parametrize("backbone", ["resnet50", "timm/resnet50"])
def test_a_backbone_takes_wrapped_weights(tmp_path, resnet, backbone: str) -> None:
    state = {f"module.{key}": value for key, value in resnet.items()}
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "f.pth")
    built = build_backbone(backbone, str(tmp_path / "f.pth")).state_dict()
    assert any(torch.equal(v, resnet["layer4.2.conv3.weight"]) for v in built.values())


def _pickled(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path)


def _cut(path: Path) -> None:
    torch.save({"a": torch.rand(1000)}, path)
    path.write_bytes(path.read_bytes()[:1500])


def _cut_safetensors(path: Path) -> None:
    save_file({"a": torch.rand(1000)}, path)
    path.write_bytes(path.read_bytes()[:1500])


def _legacy_cut(path: Path) -> None:
    torch.save({"a": torch.rand(1000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:1000])


def _scripted(path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.rand(1, 2)).save(path)


def _bytes(content: bytes):
    return lambda path: path.write_bytes(content)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5\n"
DAMAGED = {
    "empty": (_bytes(b""), "is empty"),
    "LFS pointer": (_bytes(LFS), "git lfs pull"),
    "HTML": (_bytes(b"\n<!DOCTYPE html><html>"), "is a web page"),
    "XML": (_bytes(b"<?xml version='1.0'?><Error>AccessDenied</Error>"), "is a web page"),
    "gzip": (_bytes(b"\x1f\x8b\x08 more"), "is compressed"),
    "text": (_bytes(b"404: Not Found"), "is truncated, damaged or no file"),
    "noise": (_bytes(random.Random(0).randbytes(5000)), "is truncated, damaged or no file"),
    "truncated": (_cut, "is truncated, damaged or no file"),
    "truncated safetensors": (_cut_safetensors, "is truncated, damaged or no file"),
    "truncated, of old torch": (_legacy_cut, "is truncated, damaged or no file"),
    "a pickled network": (_pickled, "save the state_dict"),
    "TorchScript": (_scripted, "save the state_dict"),
    "a list": (lambda path: torch.save([1, 2], path), "holds no state dict"),
    "no tensors": (lambda path: torch.save({"epoch": 3}, path), "holds no state dict"),
    "nothing": (lambda path: torch.save({}, path), "holds no state dict"),
    "numbers as names": (lambda path: torch.save({1: torch.ones(1)}, path), "holds no state dict"),
}


@pytest.mark.parametrize("backbone", ["resnet50", "timm/resnet18", "efficientnet-lite0"])
@pytest.mark.parametrize(("make", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_weights_are_one_sentence(tmp_path: Path, make, reason: str, backbone) -> None:
    make(tmp_path / "f.pth")
    with pytest.raises(ValueError, match=rf"f\.pth .*{reason}") as caught:
        build_backbone(backbone, str(tmp_path / "f.pth"))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("backbone", ["resnet50", "timm/resnet50"])
def test_weights_of_another_number_of_classes_are_named(tmp_path, resnet, backbone) -> None:
    fewer = {"fc.weight": torch.zeros(200, 2048), "fc.bias": torch.zeros(200)}
    torch.save(resnet | fewer, tmp_path / "f.pth")
    words = r"f\.pth does not fit resnet50: fc\.bias .*\(200\) .*\(1000\).*number of classes"
    with pytest.raises(ValueError, match=words) as caught:
        build_backbone(backbone, str(tmp_path / "f.pth"))
    assert len(str(caught.value).splitlines()) == 1


def _run(path: Path, classes: int = 3, **changes: object) -> None:
    config = TrainConfig("cam", backbone="small8", input_size=32)
    tensors = build_network(config, classes).state_dict()
    settings = config.settings() | {"num_classes": 3} | changes
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    save_file(tensors, path, metadata={"config": json.dumps(settings, sort_keys=True)})


BAD_RUNS = {
    "empty": (_bytes(b""), "is empty"),
    "LFS pointer": (_bytes(LFS), "git lfs pull"),
    "HTML": (_bytes(b"<html>" * 100), "is a web page"),
    "truncated": (_cut_safetensors, "is truncated"),
    "of torch": (
        lambda path: torch.save({"a": torch.ones(1)}, path),
        "is truncated, damaged or no",
    ),
    "of no run": (lambda path: save_file({"a": torch.ones(1)}, path), "no configuration of a run"),
    "other classes": (lambda path: _run(path, 5), "does not fit cam with 3 classes: .*5.*3"),
    "a setting of tomorrow": (lambda path: _run(path, colour="red"), "another version.*colour"),
}


@pytest.mark.parametrize(("make", "reason"), BAD_RUNS.values(), ids=BAD_RUNS)
def test_damaged_weights_of_a_run_are_one_sentence(tmp_path: Path, make, reason: str) -> None:
    make(tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=rf"{WEIGHTS} .*{reason}") as caught:
        load_network(tmp_path / WEIGHTS)
    assert len(str(caught.value).splitlines()) == 1
    noise_image(tmp_path / "a.png")
    result = wsol("localize", tmp_path, tmp_path / "a.png", "--out", tmp_path / "o", "--tau", 0.5)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


# --- errors of a data set


def test_a_subset_of_cub_is_told_in_a_few_lines(tmp_path: Path) -> None:
    texts = {name: "" for name in ("image_class_labels", "train_test_split", "bounding_boxes")}
    for i in range(1, 2501):
        texts["image_class_labels"] += f"{i} 1\n"
        texts["train_test_split"] += f"{i} 1\n"
        texts["bounding_boxes"] += f"{i} 1.0 2.0 3.0 4.0\n"
    texts |= {"images": "1 001.Black/a.jpg\n", "classes": "1 001.Black\n"}
    for name, text in texts.items():
        files.write_text(tmp_path / "raw" / f"{name}.txt", text)
    noise_image(tmp_path / "raw/images/001.Black/a.jpg")
    result = wsol("prepare", "cub", tmp_path / "raw", tmp_path / "out")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0].endswith("7,497 errors in the data set:")
    assert lines[1].startswith("7,497 x image id ... is not in images.txt")
    assert len(lines) == 7
    assert lines[-1] == f"All of them are in {tmp_path / 'out/errors.csv'}."
    assert len(pd.read_csv(tmp_path / "out/errors.csv")) == 7497


def test_kinds_of_errors_are_counted_the_most_frequent_first() -> None:
    errors = [f"a.txt:{i}: label {i} without class" for i in range(30)]
    errors += [f"a.txt:{i}: malformed line 'x {i} y', expected '<id>'" for i in range(50)]
    lines = str(DatasetError(errors)).splitlines()
    assert lines[0] == "80 errors in the data set:"
    assert lines[1] == "50 x malformed line ..., expected ..."
    assert lines[2] == f"    {errors[30]}"
    assert lines[6] == "30 x label ... without class"
    assert "`errors`" in lines[-1]
    assert len(lines) == 12
    words = str(DatasetError([f"{chr(97 + i % 26)}: kind {chr(97 + i // 26)}" for i in range(676)]))
    assert f"and {26 - SHOWN} kinds more" in words
    few = ["x:1: wrong", "y: wrong too"]
    assert str(DatasetError(few)).splitlines()[1:] == few


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_fewer_classes_than_five_have_fewer_predictions(tmp_path: Path, count: int) -> None:
    header = ",".join(["image_id", *(f"class_{i + 1}" for i in range(count))])
    ranked = [",".join(map(str, [*range(i, count), *range(i)])) for i in range(count)]
    lines = [header, *(f"{i},{text}" for i, text in enumerate(ranked))]
    (tmp_path / "p.csv").write_text("\n".join(lines))
    ids = [str(i) for i in range(count)]
    labels = pd.Series([0] * count)  # as the command hands them over
    ranks, predictions = read_predictions(tmp_path / "p.csv", ids, labels)
    assert predictions.shape == (count, count)
    assert ranks.tolist() == [(-i) % count for i in range(count)]


@pytest.mark.parametrize(
    ("labels", "line", "reason"),
    [
        ([0], "a,0,2", "must rank the classes 0 to 1"),
        ([3], "a,0,1", "the metadata has more classes"),
        ([0], "a,0,0", "a class more than once"),
        ([0], "a,0,1,2", "malformed line|not in the metadata"),
    ],
)
def test_fewer_predictions_than_classes_are_refused(tmp_path, labels, line, reason) -> None:
    (tmp_path / "p.csv").write_text(f"image_id,class_1,class_2\n{line}\n")
    with pytest.raises(DatasetError, match=reason):
        read_predictions(tmp_path / "p.csv", ["a"], labels)


# --- other systems


@pytest.mark.parametrize("missing", ["function", "support"])
def test_disk_space_is_allocated_without_fallocate(tmp_path, monkeypatch, missing: str) -> None:
    def unsupported(*args: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    if missing == "function":
        monkeypatch.delattr(arrays.os, "posix_fallocate")
    else:
        monkeypatch.setattr(arrays.os, "posix_fallocate", unsupported)
    arrays.make_array(tmp_path / "a.npy", np.float32, (300, 7, 201))
    array = np.load(tmp_path / "a.npy")
    assert array.shape == (300, 7, 201)
    assert not array.any()
    assert os.stat(tmp_path / "a.npy").st_blocks * 512 >= array.nbytes  # no hole


@pytest.mark.parametrize("fallocate", [True, False])
def test_an_array_on_a_full_disk_is_an_error(tmp_path, monkeypatch, fallocate: bool) -> None:
    def full(*args: object) -> None:
        raise FULL

    if fallocate:
        monkeypatch.setattr(arrays.os, "posix_fallocate", full)
    else:
        monkeypatch.delattr(arrays.os, "posix_fallocate")
        monkeypatch.setattr(arrays, "bytes", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        arrays.make_array(tmp_path / "a.npy", np.uint8, (10, 10))


SPECIAL = ["fec0::1", "feff:ffff::1", "3fff::1", "5f00::1", "64:ff9b:1::1", "::ffff:192.88.99.1"]
SPECIAL += ["192.88.99.1", "192.0.0.8", "192.0.0.170", "168.63.129.16", "::127.0.0.1", "2001::1"]
SPECIAL += ["2002:c058:6301::1", "64:ff9b::c000:8", "fd00:ec2::254", "ff0e::1", "100::1"]


@pytest.mark.parametrize("address", SPECIAL)
def test_a_special_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["192.0.1.1", "2001:4860:4860::8888", "2a00:1450::1"])
def test_an_address_beside_is_public(address: str) -> None:
    assert is_public(address)


# --- what a second person found


def test_a_link_a_device_and_a_pipe_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("kept")
    (tmp_path / "link.csv").symlink_to("mine.csv")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link.csv", "pipe"):
        with pytest.raises(OSError, match="no regular file"):
            files.write_text(tmp_path / name, "new")
        with pytest.raises(OSError, match="no regular file"):
            check_writable(tmp_path / name)
    assert (tmp_path / "mine.csv").read_text() == "kept"
    assert (tmp_path / "link.csv").is_symlink()


def test_images_of_a_background_set_go_nowhere_else(root: Path, tmp_path: Path) -> None:
    noise_image(tmp_path / "holiday" / "0.png", (W, H), 5)
    before = (tmp_path / "holiday" / "0.png").read_bytes()
    for below in ("../holiday", str(tmp_path / "holiday")):
        candidates = from_folder(root / "train" / "a", "me", "CC0-1.0", below)
        with pytest.raises(DatasetError, match="leads out of the folder"):
            build_background_set(candidates, tmp_path / "set")
    assert (tmp_path / "holiday" / "0.png").read_bytes() == before


def test_a_copy_that_was_edited_is_no_copy_any_more(root: Path, tmp_path: Path) -> None:
    candidates = from_folder(root / "train" / "a", "me", "CC0-1.0")
    build_background_set(candidates, tmp_path / "set")
    build_background_set(candidates, tmp_path / "set", replace=True)
    (tmp_path / "set" / "mine.png").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        build_background_set(candidates, tmp_path / "set", replace=True)
    (tmp_path / "set" / "mine.png").unlink()
    noise_image(tmp_path / "set" / "0.png", (W, H), 9)
    with pytest.raises(FileExistsError):
        build_background_set(candidates, tmp_path / "set", replace=True)


def test_photographs_that_are_named_like_overlays_stay(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "out" / "overlays" / "20240101-beach.jpg"
    noise_image(own, (W, H), 1)
    with pytest.raises(FileExistsError, match="overlays"):
        localize_to_folder([root], RUN, tmp_path / "out", overlays=True)
    assert own.is_file()


def test_an_errors_csv_of_somebody_else_stays(root: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for content in (b"run,error\n1,0.5\n", b"", b"\xff\xfe"):
        (tmp_path / "data" / "errors.csv").write_bytes(content)
        with prepare.errors_kept(tmp_path / "data"):
            pass
        assert (tmp_path / "data" / "errors.csv").read_bytes() == content


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "testing"), ("train", "valid")])
def test_folders_named_almost_like_splits_are_no_classes(tmp_path: Path, names) -> None:
    for name in names:
        noise_image(tmp_path / "set" / name / "a" / "0.png", (W, H), 0)
    with pytest.raises(DatasetError, match="are called train, val, test"):
        read_folder(tmp_path / "set")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,x0,y0,x1,y1\n", "no box in it"),
        ("image,x0,y0,x1,y1\ntrain/a/0.png,1_0,2,20,20\n", "malformed line"),
    ],
)
def test_tables_of_boxes_without_a_box_are_refused(root, tmp_path, text: str, words: str) -> None:
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(DatasetError, match=words):
        read_folder(root, tmp_path / "boxes.csv")


def test_a_column_called_rank_does_not_make_boxes_ours(root: Path, tmp_path: Path) -> None:
    lines = [f"{name},1,2,20,20,species" for name in NAMES]
    (tmp_path / "boxes.csv").write_text("\n".join(["image,x0,y0,x1,y1,rank", *lines]))
    assert (read_folder(root, tmp_path / "boxes.csv")["boxes"] == "1 2 20 20").all()


@pytest.mark.parametrize("bbox", ["1234", {"1": 0, "2": 0, "3": 0, "4": 0}])
def test_a_bbox_is_a_list(root: Path, tmp_path: Path, bbox: object) -> None:
    content = changed("annotations", bbox=bbox)
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="malformed"):
        read_folder(root, tmp_path / "boxes.json")


def test_names_with_a_line_break_are_refused(tmp_path: Path) -> None:
    noise_image(tmp_path / "set" / "a" / "x\r.png", (W, H), 0)
    with pytest.raises(ValueError, match="line break"):
        read_folder(tmp_path / "set")


@pytest.mark.parametrize("content", ["[]", "", "{", '{"class": {"read_out": "raw"}}', '{"x": 1}'])
def test_a_damaged_boxes_json_is_named(tmp_path: Path, content: str) -> None:
    shutil.copytree(FOLDER / RUN, tmp_path / "run")
    if content.startswith('{"class"'):  # of these weights
        about = json.loads((tmp_path / "run" / "boxes.json").read_text())
        content = json.dumps(about | {"class": {"read_out": "raw"}})
    (tmp_path / "run" / "boxes.json").write_text(content)
    with pytest.raises(ValueError, match=r"boxes\.json"):
        box_settings(tmp_path / "run", None, "class", None, None)


def test_a_run_names_all_its_classes(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / RUN, tmp_path / "run")
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    names = about["class_names"][:2]
    (tmp_path / "run" / "run.json").write_text(json.dumps(about | {"class_names": names}))
    with pytest.raises(ValueError, match=r"run\.json names 2 classes"):
        class_names(tmp_path / "run", None, 20)


def test_localize_takes_the_name_of_a_published_run(root: Path) -> None:
    assert wsol_package.localize(root / NAMES[0], RUN)[0].score > 0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no table"])
def test_a_damaged_localization_table_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "test-1-of-2.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"test-1-of-2\.npz"):
        LocalizationTable.load(tmp_path / "test-1-of-2.npz")
    np.savez(tmp_path / "test-1-of-2.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="is no localization table"):
        LocalizationTable.load(tmp_path / "test-1-of-2.npz")


@pytest.mark.parametrize("name", ["boxes.csv", "boxes.coco.json"])
def test_boxes_of_somebody_else_in_the_output_folder_stay(root: Path, tmp_path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("image,x0,y0,x1,y1\na/0.png,1,2,3,4\n")
    with pytest.raises(FileExistsError, match="was not made by wsol"):
        localize_to_folder([root], RUN, tmp_path / "out", tau=0.5)
    assert (tmp_path / "out" / name).read_text().startswith("image,")


def test_an_index_of_somebody_else_stays(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / INDEX).write_text("id,mine\n")
    result = wsol("prepare", "folder", root, tmp_path / "out")
    assert (result.exit_code, "was not made by wsol" in result.stderr) == (2, True)
    assert (tmp_path / "out" / INDEX).read_text() == "id,mine\n"


@pytest.mark.parametrize("folder", ["labels", "overlays"])
@pytest.mark.parametrize("what", ["added", "changed"])
def test_overlays_and_texts_that_somebody_changed_stay(root, tmp_path, folder, what) -> None:
    options = dict(overlays=True, yolo=True, tau=0.5)
    for _ in range(2):  # what nobody changed is replaced
        localize_to_folder([root], RUN, tmp_path / "out", **options)
        (tmp_path / "out" / folder / ".DS_Store").write_text("of a system")
    file = sorted((tmp_path / "out" / folder).rglob("*.*"))[-1]
    file = file.with_name("mine.txt") if what == "added" else file
    file.write_text("mine")
    with pytest.raises(FileExistsError, match="holds files of others"):
        localize_to_folder([root], RUN, tmp_path / "out", **options)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", ["boxes.csv.partial", "labels.partial", "labels.lock"])
def test_files_with_the_endings_of_temporary_ones_stay(root, tmp_path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    localize_to_folder([root], RUN, tmp_path / "out", yolo=True, tau=0.5)
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_one_file_in_two_classes_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        noise_image(tmp_path / "set" / name / "0.png", (W, H), ord(name))
    (tmp_path / "set" / "a" / "again").symlink_to("../a", target_is_directory=True)
    assert len(read_folder(tmp_path / "set")) == 2
    (tmp_path / "set" / "a" / "all").symlink_to("..", target_is_directory=True)
    (error,) = errors_of(read_folder, tmp_path / "set")
    assert error.endswith("b/0.png: the same file as " + str(tmp_path / "set/a/all/b/0.png"))


def test_a_class_as_output_folder_is_refused(root: Path) -> None:
    shutil.move(root / "train", root.parent / "set")
    result = wsol("prepare", "folder", root.parent / "set", root.parent / "set" / "a")
    assert (result.exit_code, "is in the folder to prepare" in result.stderr) == (2, True)
    result = wsol("prepare", "folder", root.parent / "set", root.parent / "set" / "index")
    assert result.exit_code == 0


def test_accents_as_letters_or_marks_are_the_same_name(tmp_path: Path) -> None:
    letters, marks = "Zaunk\u00f6nig", "Zaunko\u0308nig"
    noise_image(tmp_path / "set" / marks / f"{marks}.png", (W, H))
    for prefix in ("", "export/"):
        lines = [
            "image,x0,y0,x1,y1,class_name",
            f"{prefix}{letters}/{letters}.png,1,2,3,4,{letters}",
        ]
        (tmp_path / "boxes.csv").write_text("\n".join(lines), encoding="utf-8")
        rows = read_folder(tmp_path / "set", tmp_path / "boxes.csv", shares=(1, 0, 0))
        assert rows["boxes"].tolist() == ["1 2 3 4"]


def test_masks_of_a_folder_are_read_while_it_is_prepared(root: Path, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        trimap = np.ones((H, W), np.uint8) + (np.arange(W) > 9)
        Image.fromarray(trimap).save(tmp_path / "masks" / name)
    errors = errors_of(read_folder, root, masks=tmp_path / "masks")
    assert len(errors) == len(NAMES)
    assert "has the levels 1, 2: write 0 and 255" in errors[0]


@pytest.mark.parametrize("name", ["backbone", "method", "schedule"])
def test_a_damaged_configuration_in_weights_is_named(tmp_path: Path, name: str) -> None:
    content = (FOLDER / RUN / WEIGHTS).read_bytes()
    key = f'\\"{name}\\": \\"'.encode()
    at = content.index(key) + len(key)
    damaged = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    (tmp_path / WEIGHTS).write_bytes(damaged)
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged or of another version"):
        load_network(tmp_path / WEIGHTS)
