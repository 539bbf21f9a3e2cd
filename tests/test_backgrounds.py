"""Background image sets: the manifest accounts for every image, and says so when it does not."""

import hashlib
from pathlib import Path

import pytest

from wsol.datasets.backgrounds.manifest import background_paths, read_background_set, write_manifest
from wsol.datasets.checks import DatasetError

FILES = {"b.jpg": b"second", "a.jpg": b"first", "deeper/c.PNG": b"third"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, a note that is none, and their manifest."""
    folder = tmp_path / "background set"
    (folder / "deeper").mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "notes.txt").write_text("not an image")
    write_manifest(folder, "https://example.org/set", "CC0-1.0")
    return folder


def errors_of(folder: Path) -> list[str]:
    with pytest.raises(DatasetError) as caught:
        read_background_set(folder)
    return caught.value.errors


def edit(folder: Path, old: str, new: str) -> None:
    manifest = folder / "manifest.csv"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new, 1))


def test_a_manifest_reads_back_as_one_row_per_image(folder):
    table = read_background_set(folder)
    assert list(table.columns) == ["file", "sha256", "source", "licence"]
    assert list(table["file"]) == ["a.jpg", "b.jpg", "deeper/c.PNG"]
    digests = [hashlib.sha256(FILES[name]).hexdigest() for name in table["file"]]
    assert list(table["sha256"]) == digests
    assert set(table["source"]) == {"https://example.org/set"}
    assert set(table["licence"]) == {"CC0-1.0"}


def test_the_same_images_give_the_same_bytes(folder, tmp_path):
    before = (folder / "manifest.csv").read_bytes()
    other = tmp_path / "other"
    (other / "deeper").mkdir(parents=True)
    for name in reversed(FILES):
        (other / name).write_bytes(FILES[name])
    assert write_manifest(other, "https://example.org/set", "CC0-1.0").read_bytes() == before
    assert write_manifest(folder, "https://example.org/set", "CC0-1.0").read_bytes() == before
    assert b"\r" not in before


def test_the_first_n_are_those_of_the_manifest(folder):
    assert background_paths(folder, 2) == [folder / "a.jpg", folder / "b.jpg"]
    assert background_paths(folder) == [folder / name for name in sorted(FILES)]
    assert background_paths(folder, 0) == []
    lines = (folder / "manifest.csv").read_text().splitlines()
    turned = [lines[0], *reversed(lines[1:])]
    (folder / "manifest.csv").write_text("\n".join(turned) + "\n")
    assert background_paths(folder, 1) == [folder / "deeper/c.PNG"]


@pytest.mark.parametrize("n", [4, -1])
def test_more_images_than_there_are_is_an_error_in_plain_words(folder, n):
    with pytest.raises(ValueError, match=rf"{n} background images were asked for; .* has 3"):
        background_paths(folder, n)


def test_all_errors_come_in_one_error(folder):
    (folder / "a.jpg").unlink()
    (folder / "b.jpg").write_bytes(b"other bytes")
    (folder / "z.jpeg").write_bytes(b"new")
    manifest = folder / "manifest.csv"
    assert errors_of(folder) == [
        f"{manifest}:2: missing image {folder / 'a.jpg'}",
        f"{manifest}:3: altered image {folder / 'b.jpg'}: its sha256 is not the manifest's",
        f"{folder / 'z.jpeg'}: image that is not in manifest.csv",
    ]


def test_an_image_listed_twice_is_an_error(folder):
    manifest = folder / "manifest.csv"
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([*lines, lines[1]]) + "\n")
    assert errors_of(folder) == [f"{manifest}:5: duplicate file a.jpg"]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("https://example.org/set", " ", "a.jpg has no source"),
        ("CC0-1.0", "", "a.jpg has no licence"),
        ("\na.jpg", "\n../a.jpg", "../a.jpg leads out of the folder"),
    ],
)
def test_a_row_without_its_facts_is_an_error(folder, old, new, what):
    edit(folder, old, new)
    assert f"{folder / 'manifest.csv'}:2: {what}" in errors_of(folder)


def test_a_folder_without_manifest_is_told_apart(tmp_path):
    with pytest.raises(DatasetError, match=r"manifest\.csv: missing file"):
        background_paths(tmp_path)


@pytest.mark.parametrize("content", ["", "file,sha256\na.jpg,1\n"])
def test_what_is_no_manifest_is_refused(folder, content):
    (folder / "manifest.csv").write_text(content)
    with pytest.raises(DatasetError, match=r"manifest\.csv.*(cannot be read|lacks the columns)"):
        read_background_set(folder)
