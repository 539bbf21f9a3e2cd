"""Checking images with a memo: nothing sound is decoded twice, nothing unsound passes."""

import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from killing import kill_while
from PIL import Image

from wsol.datasets import checks
from wsol.datasets.checks import DatasetError, ImageCheck, as_check, image_sizes
from wsol.datasets.cub import read_cub
from wsol.datasets.index import INDEX
from wsol.datasets.memo import MEMO, Memo
from wsol.datasets.prepare import ERRORS, Plan, prepare

SIZES = [(30, 20), (17, 40), (30, 20), (8, 8)]


def draw(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Four images, one with a name that is hard to write down."""
    names = ["a.jpg", "b c.png", 'd\t"ü\n\udcff.png', "e.jpg"]
    pairs = zip(names, SIZES, strict=True)
    return [draw(tmp_path / "images" / name, size, i) for i, (name, size) in enumerate(pairs)]


@pytest.fixture
def check(tmp_path: Path) -> ImageCheck:
    return ImageCheck(memo=tmp_path / "out" / MEMO, workers=2)


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Names of the images that are decoded from now on."""
    names, original = [], checks.image_size

    def spy(path: Path, decode: bool = True):
        names.append(path.name)
        return original(path, decode)

    monkeypatch.setattr(checks, "image_size", spy)
    return names


def test_a_memo_changes_no_result_and_no_sound_image_is_decoded_twice(paths, check, decoded):
    assert image_sizes(paths[:3], check) == SIZES[:3]
    assert image_sizes(paths, check) == image_sizes(paths, check) == SIZES
    assert sorted(decoded) == sorted(path.name for path in paths)
    assert image_sizes(paths) == SIZES
    assert len(decoded) == 8


@pytest.mark.parametrize("what", ["bytes", "time"])
def test_a_changed_image_is_decoded_again(paths, check, decoded, what):
    image_sizes(paths, check)
    stat = paths[0].stat()
    if what == "bytes":
        paths[0].write_bytes(paths[0].read_bytes()[:-300])
        os.utime(paths[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    else:
        paths[0].write_bytes(b"x" * stat.st_size)
        os.utime(paths[0], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    decoded.clear()
    first, *others = image_sizes(paths, check)
    assert decoded == [paths[0].name]
    assert first.startswith(f"image does not decode: {paths[0]}")
    assert others == SIZES[1:]


def test_a_damaged_image_is_decoded_every_time_until_it_is_mended(paths, check, decoded):
    content = paths[3].read_bytes()
    paths[3].write_bytes(content[:200])
    for _ in range(2):
        assert "does not decode" in image_sizes(paths, check)[3]
    paths[3].write_bytes(content)
    for _ in range(2):
        assert image_sizes(paths, check) == SIZES
    assert decoded.count(paths[3].name) == 3


def test_a_missing_image_is_told_even_if_it_was_sound(paths, check):
    image_sizes(paths, check)
    paths[1].unlink()
    assert image_sizes(paths, check)[1] == f"missing image {paths[1]}"


def test_a_header_that_was_read_does_not_count_as_decoded(paths, check):
    paths[0].write_bytes(paths[0].read_bytes()[:-300])
    assert image_sizes(paths, ImageCheck(decode=False, memo=check.memo)) == SIZES
    assert not check.memo.exists()
    assert "does not decode" in image_sizes(paths, check)[0]


def test_another_file_is_not_taken_for_a_memo_and_left_as_it_is(paths, check):
    check.memo.parent.mkdir()
    for content in (b"image_id,path\n" * 99, b"x"):
        check.memo.write_bytes(content)
        with pytest.raises(ValueError, match=r"memo\.sqlite: not a memo"):
            image_sizes(paths, check)
        assert check.memo.read_bytes() == content
    check.memo.unlink()
    with sqlite3.connect(check.memo) as other:
        other.execute("CREATE TABLE mine (x)")
    with pytest.raises(ValueError, match="another database"):
        image_sizes(paths, check)


def test_a_memo_moves_with_its_folder_and_keeps_kinds_apart(tmp_path):
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "file"
    file.touch()
    with Memo(tmp_path / "a" / MEMO) as memo:
        memo.put("one", memo.state(file), [1, "x"])
    (tmp_path / "a").rename(tmp_path / "b")
    with Memo(tmp_path / "b" / MEMO) as memo:
        state = memo.state(tmp_path / "b" / "file")
        assert memo.get("one", state) == [1, "x"]
        assert memo.get("two", state) is None


WRITE = """
import sys
from wsol.datasets.memo import Memo, State
for i in range(300):
    with Memo(sys.argv[1]) as memo:
        memo.put("k", State(f"{sys.argv[2]}/{i}".encode(), 0, 0), i)
"""


def test_two_processes_write_one_memo(tmp_path):
    words = [[sys.executable, "-c", WRITE, str(tmp_path / MEMO), name] for name in "ab"]
    children = [subprocess.Popen(command) for command in words]
    assert [child.wait() for child in children] == [0, 0]
    with sqlite3.connect(tmp_path / MEMO) as memo:
        assert memo.execute("SELECT count(*) FROM memo").fetchone() == (600,)


def test_a_bool_is_a_check():
    assert as_check(False) == ImageCheck(decode=False)
    assert as_check(True) == ImageCheck()
    check = ImageCheck(workers=3)
    assert as_check(check) is check
    with pytest.raises(ValueError, match="workers is 0"):
        ImageCheck(workers=0)


# Killed, and started again


def make_cub(root: Path, images: int) -> Path:
    """A data set in the format of CUB, with images that take a moment to decode."""
    names = [f"001.A/{i:04d}.png" for i in range(images)]
    for i, name in enumerate(names):
        draw(root / "images" / name, (220, 200 + i % 3), seed=i)
    ids = range(1, images + 1)
    tables = {
        "images.txt": [f"{i} {name}" for i, name in zip(ids, names, strict=True)],
        "classes.txt": ["1 001.A"],
        "image_class_labels.txt": [f"{i} 1" for i in ids],
        "train_test_split.txt": [f"{i} {i % 2}" for i in ids],
        "bounding_boxes.txt": [f"{i} 1 2 {3 + i % 50} 4" for i in ids],
    }
    for name, lines in tables.items():
        (root / name).write_text("\n".join(lines))
    return root


PREPARE = """
import sys, time
from pathlib import Path
from wsol.datasets import checks, memo
from wsol.datasets.prepare import Plan, prepare
memo.BATCH, original = 10, checks.image_size
def slow(path, decode=True):
    time.sleep(0.01)
    return original(path, decode)
checks.image_size = slow
raw, out = map(Path, sys.argv[1:])
assert prepare(Plan("cub", raw, out, check=checks.ImageCheck(workers=1))).empty
"""


def known_images(memo: Path) -> int:
    if not memo.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{memo}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT count(*) FROM memo").fetchone()[0]
    except sqlite3.OperationalError:  # not written yet
        return 0


def test_validation_survives_kill_9_again_and_again(tmp_path, decoded):
    raw, out, n = make_cub(tmp_path / "raw", images=120), tmp_path / "broken", 120
    command = [sys.executable, "-c", PREPARE, str(raw), str(out)]
    for seed in range(2):  # each run gets somewhat farther than the one before
        target = (seed + 1) * 20
        kill_while(command, lambda: known_images(out / MEMO) >= target, seed)  # noqa: B023
        assert not (out / INDEX).exists()
    known = known_images(out / MEMO)
    assert 40 <= known < n
    assert prepare(Plan("cub", raw, out)).empty
    assert len(decoded) == n - known
    assert prepare(Plan("cub", raw, tmp_path / "unbroken")).empty
    assert (out / INDEX).read_bytes() == (tmp_path / "unbroken" / INDEX).read_bytes()
    assert sorted(path.name for path in out.iterdir()) == [INDEX, MEMO]


def test_a_reader_without_a_memo_finds_the_same(tmp_path):
    raw = make_cub(tmp_path / "raw", images=6)
    for path in random.Random(0).sample(sorted((raw / "images/001.A").iterdir()), 2):
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DatasetError) as caught:
        read_cub(raw)
    errors = prepare(Plan("cub", raw, tmp_path / "out"))
    assert [": ".join(row) for row in errors.to_numpy()] == caught.value.errors
    assert len(errors) == 2
    assert (tmp_path / "out" / ERRORS).is_file()
