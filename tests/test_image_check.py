"""Looking at images with a journal: nothing sound is decoded twice, nothing unsound passes."""

import json
import os
import random
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from killing import kill_while
from PIL import Image

from wsol.datasets import checks as image_check
from wsol.datasets.checks import HEADER, JOURNAL, DatasetError, ImageCheck, as_check, image_sizes
from wsol.datasets.cub import read_cub
from wsol.datasets.index import INDEX
from wsol.datasets.prepare import FAULTS, Plan, prepare

SIZES = [(30, 20), (17, 40), (30, 20), (8, 8)]


def draw(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Four pictures, one with a name that is hard to write down."""
    names = ["a.jpg", "b c.png", 'd\t"ü\n.png', "e.jpg"]
    pairs = zip(names, SIZES, strict=True)
    return [draw(tmp_path / "images" / name, size, i) for i, (name, size) in enumerate(pairs)]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "out" / JOURNAL


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Names of the images that are decoded from now on."""
    names, original = [], image_check.image_size

    def spy(path: Path, decode: bool = True):
        names.append(path.name)
        return original(path, decode)

    monkeypatch.setattr(image_check, "image_size", spy)
    return names


def lines_of(journal: Path) -> list[list]:
    header, *lines = journal.read_text().splitlines(keepends=True)
    assert header == HEADER
    return [json.loads(line) for line in lines]


def test_a_journal_changes_no_result(paths, journal):
    check = ImageCheck(journal=journal)
    assert image_sizes(paths, check) == image_sizes(paths, check) == image_sizes(paths) == SIZES


def test_a_sound_image_is_decoded_once(paths, journal, decoded):
    image_sizes(paths[:3], ImageCheck(journal=journal))
    assert image_sizes(paths, ImageCheck(journal=journal, workers=1)) == SIZES
    assert sorted(decoded) == sorted(path.name for path in paths)
    again = ImageCheck(journal=journal)
    assert image_sizes(paths, again) == image_sizes(paths, again) == SIZES
    assert len(decoded) == 4


def test_the_same_check_learns_what_it_finds(paths, journal, decoded):
    check = ImageCheck(journal=journal)
    image_sizes(paths, check)
    image_sizes(paths, check)
    assert len(decoded) == 4


def test_each_image_is_one_line(paths, journal):
    image_sizes(paths, ImageCheck(journal=journal))
    for path, line in zip(paths, lines_of(journal), strict=True):
        stat = path.stat()
        assert (journal.parent / line[0]).samefile(path)
        assert line[1:3] == [stat.st_size, stat.st_mtime_ns]
    assert [tuple(line[3:]) for line in lines_of(journal)] == SIZES


@pytest.mark.parametrize("what", ["bytes", "time"])
def test_a_changed_image_is_decoded_again(paths, journal, decoded, what):
    image_sizes(paths, ImageCheck(journal=journal))
    stat = paths[0].stat()
    if what == "bytes":
        paths[0].write_bytes(paths[0].read_bytes()[:-300])
        os.utime(paths[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    else:
        paths[0].write_bytes(b"x" * stat.st_size)
        os.utime(paths[0], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    decoded.clear()
    first, *others = image_sizes(paths, ImageCheck(journal=journal))
    assert decoded == [paths[0].name]
    assert first.startswith(f"image does not decode: {paths[0]}")
    assert others == SIZES[1:]


def test_a_faulty_image_is_looked_at_every_time_until_it_is_mended(paths, journal, decoded):
    content = paths[3].read_bytes()
    paths[3].write_bytes(content[:200])
    for _ in range(2):
        assert "does not decode" in image_sizes(paths, ImageCheck(journal=journal))[3]
    assert decoded.count(paths[3].name) == 2
    paths[3].write_bytes(content)
    for _ in range(2):
        assert image_sizes(paths, ImageCheck(journal=journal)) == SIZES
    assert decoded.count(paths[3].name) == 3


def test_a_missing_image_is_told_even_if_it_was_sound(paths, journal):
    image_sizes(paths, ImageCheck(journal=journal))
    paths[1].unlink()
    assert image_sizes(paths, ImageCheck(journal=journal))[1] == f"missing image {paths[1]}"


def test_a_header_that_was_read_does_not_count_as_decoded(paths, journal):
    paths[0].write_bytes(paths[0].read_bytes()[:-300])
    assert image_sizes(paths, ImageCheck(decode=False, journal=journal)) == SIZES
    assert not journal.exists()
    assert "does not decode" in image_sizes(paths, ImageCheck(journal=journal))[0]


@pytest.mark.parametrize("lost", range(1, 60, 7))
def test_a_torn_last_line_is_ignored_and_what_follows_is_read(paths, journal, decoded, lost):
    image_sizes(paths[:3], ImageCheck(journal=journal))
    journal.write_bytes(journal.read_bytes()[:-lost])
    assert image_sizes(paths, ImageCheck(journal=journal)) == SIZES
    decoded.clear()
    assert image_sizes(paths, ImageCheck(journal=journal)) == SIZES
    assert decoded == []


def test_a_journal_may_be_cut_anywhere(paths, journal, decoded):
    """Whatever the crash left, the results are the same, and every whole line counts."""
    image_sizes(paths, ImageCheck(journal=journal, workers=1))
    content = journal.read_bytes()
    for cut in range(len(content) + 1):
        journal.write_bytes(content[:cut])
        decoded.clear()
        assert image_sizes(paths, ImageCheck(journal=journal, workers=1)) == SIZES
        whole = (content[:cut] + b"\n").count(b"]\n") - 1  # one is the header
        assert len(decoded) == 4 - max(whole, 0)
        assert ImageCheck(journal=journal).sound == ImageCheck(journal=journal).sound
        assert len(ImageCheck(journal=journal).sound) == 4


@pytest.mark.parametrize("content", ["image_id,path\n", "x", "[1]\n" * 9, HEADER[:-2] + "x\n"])
def test_another_file_is_not_taken_for_a_journal_and_left_as_it_is(paths, journal, content):
    journal.parent.mkdir()
    journal.write_text(content)
    with pytest.raises(DatasetError, match="is no journal of checked images"):
        image_sizes(paths, ImageCheck(journal=journal))
    assert journal.read_text() == content


def test_a_bool_is_a_check(paths):
    assert as_check(False) == ImageCheck(decode=False)
    assert as_check(True) == ImageCheck()
    check = ImageCheck(workers=3)
    assert as_check(check) is check
    with pytest.raises(ValueError, match="workers is 0"):
        ImageCheck(workers=0)


def test_only_few_images_are_under_way_at_a_time(monkeypatch):
    """With 1.3 million futures at once memory would run out."""
    taken, answered, most, lock = 0, 0, 0, threading.Lock()

    def look(path, check):
        nonlocal answered
        with lock:
            answered += 1
        return image_check._Look((1, 1))

    class Paths(list):
        def __iter__(self):
            nonlocal taken, most
            for path in super().__iter__():
                taken += 1
                most = max(most, taken - answered)
                yield path

    monkeypatch.setattr(image_check, "_look", look)
    assert image_sizes(Paths(range(5000)), ImageCheck(workers=2)) == [(1, 1)] * 5000
    assert most <= image_check.AHEAD * 2 + 1


# --- killed, and started again


def make_cub(root: Path, images: int) -> Path:
    """A data set in the format of CUB, with pictures that take a moment to decode."""
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
import sys
from pathlib import Path
from wsol.datasets.checks import ImageCheck
from wsol.datasets.prepare import Plan, prepare
raw, out = map(Path, sys.argv[1:])
assert prepare(Plan("cub", raw, out, check=ImageCheck(workers=1))).empty
"""


def test_validation_survives_kill_9_again_and_again(tmp_path, decoded):
    raw, out = make_cub(tmp_path / "raw", images=250), tmp_path / "broken"
    journal, n = out / JOURNAL, 250
    command = [sys.executable, "-c", PREPARE, str(raw), str(out)]
    for seed in range(2):  # two runs that are killed, each somewhat farther than the one before
        target = len(HEADER) + (seed + 1) * 3000
        kill_while(command, lambda: journal.exists() and journal.stat().st_size > target, seed)  # noqa: B023
        assert not (out / INDEX).exists()
    known = len(ImageCheck(journal=journal).sound)
    assert 0 < known < n
    assert prepare(Plan("cub", raw, out)).empty
    assert len(decoded) == n - known
    assert prepare(Plan("cub", raw, tmp_path / "unbroken")).empty
    assert (out / INDEX).read_bytes() == (tmp_path / "unbroken" / INDEX).read_bytes()
    assert sorted(path.name for path in out.iterdir()) == [JOURNAL, INDEX]


def test_a_reader_without_a_journal_finds_the_same(tmp_path):
    raw = make_cub(tmp_path / "raw", images=6)
    damaged = random.Random(0).sample(sorted((raw / "images/001.A").iterdir()), 2)
    for path in damaged:
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DatasetError) as caught:
        read_cub(raw)
    faults = prepare(Plan("cub", raw, tmp_path / "out"))
    assert [": ".join(row) for row in faults.to_numpy()] == caught.value.faults
    assert len(faults) == 2
    assert (tmp_path / "out" / FAULTS).is_file()
