"""Copies of an image are found, other images are not taken for copies, and hashes are kept."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wsol.datasets.backgrounds import copies as image_hashes
from wsol.datasets.backgrounds.copies import (
    DISTANCE,
    ImageHash,
    copies_within,
    hash_file,
    hash_files,
    leakage,
    near_pairs,
    perceptual_hash,
    to_bits,
)
from wsol.datasets.birds import SPECIES, background_image, bird_image
from wsol.datasets.checks import DatasetError
from wsol.datasets.index import index_table

N = 60  # habitats and birds drawn for the distances


@cache
def scene(i: int) -> Image.Image:
    """The i-th image: two of three are scenes of all gaps, the third has a bird."""
    rng = np.random.default_rng([11, i])
    if i % 3:
        return Image.fromarray(background_image(rng, (0.0, 0.3, 1.0)[i % 2 + i % 3 - 1]).image)
    return Image.fromarray(bird_image(rng, SPECIES[i % len(SPECIES)]).image)


def encoded(image: Image.Image, form: str, **settings: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, form, **settings)
    return Image.open(data)


def resized(image: Image.Image, factor: float) -> Image.Image:
    width, height = image.size
    return image.resize((round(factor * width), round(factor * height)), Image.Resampling.LANCZOS)


COPIES = {
    "JPEG of quality 50": lambda image: encoded(image, "JPEG", quality=50),
    "JPEG of quality 25": lambda image: encoded(image, "JPEG", quality=25),
    "WebP": lambda image: encoded(image, "WEBP", quality=60),
    "PNG": lambda image: encoded(image, "PNG"),
    "half size": lambda image: resized(image, 0.5),
    "double size": lambda image: resized(image, 2),
    "half size, JPEG": lambda image: encoded(resized(image, 0.5), "JPEG", quality=50),
    "squashed": lambda image: image.resize((96, 96), Image.Resampling.BILINEAR),
    "grey": lambda image: image.convert("L"),
}


def bits(image: Image.Image) -> np.uint64:
    return to_bits([perceptual_hash(image)])[0]


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_within_the_distance(how: str) -> None:
    differ = [int(np.bitwise_count(bits(scene(i)) ^ bits(COPIES[how](scene(i))))) for i in range(N)]
    assert max(differ) <= DISTANCE


def test_different_images_are_not_taken_for_copies() -> None:
    hashes = np.array([bits(scene(i)) for i in range(N)])
    differ = np.bitwise_count(hashes[:, None] ^ hashes)[np.triu_indices(N, 1)]
    assert len(differ) == N * (N - 1) // 2
    assert differ.min() > DISTANCE
    assert np.median(differ) >= 28


def test_an_image_stored_turned_has_the_hash_of_the_upright_one() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees when shown
    turned = encoded(scene(0).transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    assert perceptual_hash(turned) == perceptual_hash(scene(0))


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=30),
    st.lists(st.integers(0, 2**64 - 1), max_size=30),
    st.integers(0, 64),
)
def test_near_pairs_are_those_of_two_loops(some: list, others: list, distance: int) -> None:
    oracle = [
        (i, j, (a ^ b).bit_count())
        for i, a in enumerate(some)
        for j, b in enumerate(others)
        if (a ^ b).bit_count() <= distance
    ]
    pairs = near_pairs(np.array(some, np.uint64), np.array(others, np.uint64), distance)
    assert sorted(map(tuple, pairs.tolist())) == oracle


def test_blocks_do_not_show_in_the_pairs(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    some, others = (rng.integers(0, 2**63, n, dtype=np.uint64) for n in (50, 7))
    whole = near_pairs(some, others, 30)
    monkeypatch.setattr(image_hashes, "PAIRS", 20)  # two rows at a time, and one over
    assert len(whole) > 50
    assert near_pairs(some, others, 30).tolist() == whole.tolist()


def hashes_of(*numbers: int) -> list[ImageHash]:
    return [ImageHash(f"sha-{i}", f"{number:016x}") for i, number in enumerate(numbers)]


def test_of_copies_the_first_is_kept_and_a_chain_does_not_swallow_its_far_end() -> None:
    # 0b111 is near 0, 0b11111 is near 0b111 but not near 0: only the middle one goes.
    table = copies_within("abc", hashes_of(0, 0b111, 0b1111111), distance=4)
    assert table.values.tolist() == [["b", "near copy", "a", "", 3]]


def test_exact_copies_are_told_from_near_ones() -> None:
    same, near = ImageHash("one", f"{0:016x}"), ImageHash("two", f"{1:016x}")
    table = copies_within(["a", "b", "c"], [same, same, near])
    rows = [["b", "exact copy", "a", "", 0], ["c", "near copy", "a", "", 1]]
    assert table.values.tolist() == rows


@pytest.fixture
def data(tmp_path: Path):
    """Three images of a data set, one of each split, and their index table."""
    rows = []
    for i, split in enumerate(("train-weaksup", "train-fullsup", "test")):
        scene(i).save(tmp_path / f"{i}.png")
        rows.append(dict(image_id=f"id-{i}", path=f"{i}.png", split=split, label=0))
    table = index_table([row | dict(class_name="a", width=1, height=1) for row in rows])
    return table, tmp_path


def test_leakage_names_the_image_and_its_split(data, tmp_path: Path) -> None:
    index, root = data
    names = ["exact.png", "near-copy.jpg", "other.png"]
    folder = tmp_path / "background"
    folder.mkdir()
    (folder / names[0]).write_bytes((root / "2.png").read_bytes())
    resized(scene(0), 0.6).save(folder / names[1], quality=60)
    scene(4).save(folder / names[2])
    table = leakage(names, hash_files([folder / name for name in names]), index, root)
    assert table[["file", "reason", "of", "split"]].values.tolist() == [
        ["exact.png", "exact copy", "id-2", "test"],
        ["near-copy.jpg", "near copy", "id-0", "train-weaksup"],
    ]
    assert table["distance"].tolist()[0] == 0
    assert table["distance"].tolist()[1] <= DISTANCE


def test_a_second_check_reads_no_image_that_has_not_changed(data, tmp_path, monkeypatch) -> None:
    index, root = data
    paths, cache_file = [root / path for path in index["path"]], tmp_path / "hashes.sqlite"
    first = hash_files(paths, cache_file)
    read = []
    monkeypatch.setattr(
        image_hashes, "hash_file", lambda path: read.append(path) or hash_file(path)
    )
    assert hash_files(paths, cache_file) == first
    assert read == []
    scene(5).save(paths[1])  # another image under an old name
    again = hash_files(paths, cache_file)
    assert [path.name for path in read] == ["1.png"]
    assert again[1] == hash_file(paths[1])
    assert [again[0], again[2]] == [first[0], first[2]]


def test_all_images_that_do_not_decode_come_in_one_error(data, tmp_path: Path) -> None:
    _, root = data
    (root / "cut-off.png").write_bytes((root / "1.png").read_bytes()[:200])
    (root / "empty.png").write_bytes(b"")
    (root / "text.png").write_text("no image")
    names = ["0.png", "cut-off.png", "empty.png", "text.png", "missing.png"]
    with pytest.raises(DatasetError) as caught:
        hash_files([root / name for name in names], tmp_path / "hashes.sqlite")
    assert len(caught.value.errors) == 4
    assert all(name in error for name, error in zip(names[1:], caught.value.errors, strict=True))
