"""Archives: what they must be before they are unpacked, and what of them is unpacked."""

import hashlib
import os
import random
import sys
import tarfile
from pathlib import Path

import pytest
from dataset_files import errors_of, files_below, sparse, special
from killing import kill_while
from miniatures import CHECKSUMS, pack_cub, put, tar_bytes, tgz_bytes, write_checksums

from wsol.datasets import archives as archives_module
from wsol.datasets.archives import (
    CUB,
    MASKS,
    Limits,
    check_archives,
    md5_of,
    read_checksums,
    unpack_cub,
    unpack_ilsvrc,
)
from wsol.datasets.files import PARTIAL
from wsol.datasets.memo import MEMO
from wsol.datasets.prepare import Plan, unpack
from wsol.datasets.sources import Source, published

TABLES = ("images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt")
IMAGE = "CUB_200_2011/images/001.Black_footed_Albatross/a.jpg"


def make_tree(root: Path, images: int = 3) -> Path:
    """A folder in the layout of CUB-200-2011; the content of its files is not looked at here."""
    for name in (*TABLES, "bounding_boxes.txt"):
        put(root / name, f"1 {name}\n")
    for i in range(images):
        put(root / f"images/001.A_b/{i:04d}.jpg", random.Random(i).randbytes(3000 + i))
        put(root / f"segmentations/001.A_b/{i:04d}.png", bytes([i % 256]) * 50)
    return root


# --- unpacking CUB


def test_cub_unpacks_into_the_very_tree_it_was_packed_from_with_or_without_masks(tmp_path):
    tree = make_tree(tmp_path / "tree")
    done = unpack_cub(pack_cub(tree, tmp_path / "tars"), tmp_path / "new")
    assert files_below(tmp_path / "new") == files_below(tree)
    assert (done.written, done.kept) == (11, 0)
    again = unpack_cub(tmp_path / "tars", tmp_path / "new")
    assert (again.written, again.kept) == (0, 11)
    (tmp_path / "tars" / MASKS).unlink()
    unpack_cub(tmp_path / "tars", tmp_path / "bare")
    assert not (tmp_path / "bare/segmentations").exists()
    assert (tmp_path / "bare/images.txt").is_file()


def test_all_that_the_authors_pack_is_accepted(tmp_path):
    """Names of every kind in CUB_200_2011.tgz, and what macOS leaves in archives."""
    kept = {
        "README": b"r",
        "attributes/image_attribute_labels.txt": b"x" * 2**20,
        "parts/part_click_locs.txt": b"p",
        "images/200.Common_Yellowthroat/Common_Yellowthroat_0055_190967.jpg": b"j",
        "images.txt": b"1",
    }
    members = [(f"./CUB_200_2011/{name}", content) for name, content in kept.items()]
    passed = ["attributes.txt", "._attributes.txt", "CUB_200_2011/images/._001.jpg", ".DS_Store"]
    put(tmp_path / CUB, tgz_bytes([*members, *((name, b"-") for name in passed)]))
    unpack_cub(tmp_path, tmp_path / "new")
    assert files_below(tmp_path / "new") == kept


HOSTILE = {
    "path that climbs": ((f"../{IMAGE}", b"x"), "outside the destination"),
    "path that climbs inside": (("CUB_200_2011/images/../../x.txt", b"x"), "unexpected name"),
    "absolute path": ((f"/{IMAGE}", b"x"), "unexpected name"),
    "path of Windows": (("CUB_200_2011\\..\\x.txt", b"x"), "unexpected name"),
    "symbolic link": (special(IMAGE, tarfile.SYMTYPE, "/etc/passwd"), ""),
    "link to a folder": (special("CUB_200_2011/images", tarfile.SYMTYPE, "/tmp"), ""),
    "hard link": (special(IMAGE, tarfile.LNKTYPE, "/etc/passwd"), ""),
    "link that would be passed over": (special("._x", tarfile.SYMTYPE, "/tmp"), ""),
    "character device": (special(IMAGE, tarfile.CHRTYPE), ""),
    "block device": (special(IMAGE, tarfile.BLKTYPE), ""),
    "pipe": (special(IMAGE, tarfile.FIFOTYPE), ""),
    "sparse file": (sparse(IMAGE), ""),
    "file too large": ((IMAGE, b"x" * 2000), "has 2000 bytes, more than 1500"),
    "stranger": (("CUB_200_2011/run.sh", b"x"), "unexpected name"),
    "file beside the folder": (("images.txt", b"x"), "unexpected name"),
    "hidden image": ((IMAGE.replace("a.jpg", ".a.jpg"), b"x"), "unexpected name"),
    "half-written name": ((f"{IMAGE}.partial", b"x"), "unexpected name"),
    "twin": (("CUB_200_2011/images.txt", b"y"), "twice"),
}


@pytest.mark.parametrize(("member", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_member_is_refused_and_the_rest_is_unpacked(tmp_path, member, message):
    good = ("CUB_200_2011/images.txt", b"good")
    put(tmp_path / "tars" / CUB, tgz_bytes([good, member]))
    (error,) = errors_of(unpack_cub, tmp_path / "tars", tmp_path / "new", Limits(file=1500))
    assert error.startswith(f"{tmp_path / 'tars' / CUB}: member ")
    assert message in error
    assert files_below(tmp_path / "new") == {"images.txt": b"good"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "tars"]


def test_cub_is_not_unpacked_beyond_the_limit_of_all_files(tmp_path):
    members = [(IMAGE.replace("a.jpg", f"{i}.jpg"), b"x" * 900) for i in range(3)]
    put(tmp_path / CUB, tgz_bytes(members))
    errors = errors_of(unpack_cub, tmp_path, tmp_path / "new", Limits(total=2000))
    assert "more than 2000 bytes in all" in errors[-1]
    assert len(files_below(tmp_path / "new")) == 2


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_archive_leaves_only_whole_files(tmp_path, share):
    tree = make_tree(tmp_path / "tree", images=20)
    path = pack_cub(tree, tmp_path / "tars") / CUB
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    errors = errors_of(unpack_cub, tmp_path / "tars", tmp_path / "new")
    assert any(str(path) in error for error in errors)
    assert files_below(tmp_path / "new").items() <= files_below(tree).items()


# --- sizes and checksums


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """Two archives with their checksums."""
    folder = pack_cub(make_tree(tmp_path / "tree"), tmp_path / "tars")
    write_checksums(folder)
    return folder


def sources_of(folder: Path) -> dict[str, Source]:
    """What would be published of these archives."""
    sources = {}
    for name, source in published("cub").items():
        content = (folder / name).read_bytes()
        sources[name] = source._replace(size=len(content), md5=hashlib.md5(content).hexdigest())
    return sources


def test_the_published_archives_pass_and_what_is_absent_is_passed_over(archives):
    sources = sources_of(archives)
    assert [path.name for path in check_archives(archives, sources)] == [CUB, MASKS]
    (archives / MASKS).unlink()
    assert [path.name for path in check_archives(archives, sources)] == [CUB]


def test_a_tampered_archive_of_the_right_size_is_refused(archives):
    sources, path = sources_of(archives), archives / CUB
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    md5 = hashlib.md5(content).hexdigest()
    expected = f"{path}: has the MD5 {md5}, not {sources[CUB].md5}"
    assert errors_of(check_archives, archives, sources)[0].startswith(expected)


def test_an_archive_of_another_size_is_refused_unread(archives, monkeypatch):
    sources = sources_of(archives)
    for name in sources:
        path = archives / name
        path.write_bytes(path.read_bytes()[:-7])
    monkeypatch.setattr(archives_module, "md5_of", None)
    for name, error in zip(sources, errors_of(check_archives, archives, sources), strict=True):
        size = sources[name].size
        assert error == f"{archives / name}: has {size - 7:,} bytes, and {size:,} are published"


def test_an_archive_without_a_checksum_is_refused(archives):
    file = archives / CHECKSUMS
    file.write_text("".join(line for line in file.open() if MASKS not in line))
    (error,) = errors_of(check_archives, archives, published("cub"), checksums=file)
    assert error == (f"{archives / MASKS}: its checksum is unknown, so it cannot be checked")


def test_the_file_of_md5sum_is_read_and_its_bad_lines_are_named(tmp_path):
    md5 = "d41d8cd98f00b204e9800998ecf8427e"
    file = tmp_path / CHECKSUMS
    file.write_text(f"{md5}  a b.tar\n{md5.upper()} *c.tar\n\n")
    assert read_checksums(file) == {"a b.tar": md5, "c.tar": md5}
    file.write_text(f"{md5}\n{md5[:-1]}z  a\n{md5}  good\n")
    first, second = errors_of(read_checksums, file)
    assert first.startswith(f"{file}:1: ")
    assert second.startswith(f"{file}:2: ")
    assert len(errors_of(read_checksums, tmp_path / "none")) == 1


def test_the_checksum_of_an_unchanged_file_is_not_worked_out_again(tmp_path, monkeypatch):
    file, memory = tmp_path / "a.tar", tmp_path / "out" / MEMO
    file.write_bytes(b"first")
    first = hashlib.md5(b"first").hexdigest()
    assert md5_of(file, memory) == first
    with monkeypatch.context() as patch:
        patch.setattr(archives_module.hashlib, "md5", None)
        assert md5_of(file, memory) == first
    stat = file.stat()
    file.write_bytes(b"other")  # of the same size
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert md5_of(file, memory) == hashlib.md5(b"other").hexdigest()
    assert [path.name for path in memory.parent.iterdir()] == [MEMO]


def test_nothing_is_unpacked_from_an_archive_that_is_another(archives, tmp_path):
    plan = Plan("cub", tmp_path / "raw", tmp_path / "out", archives=archives)
    errors = errors_of(unpack, plan)
    assert len(errors) == 2
    assert not plan.raw.exists()
    assert len((plan.out / "errors.csv").read_text().splitlines()) == 3


# --- killed, and started again


UNPACK = """
import sys
from pathlib import Path
from wsol.datasets.archives import unpack_{0} as unpack
unpack(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("seed", range(3))
def test_unpacking_cub_survives_kill_9(tmp_path, seed):
    tree = make_tree(tmp_path / "tree", images=3000)
    archives, new = pack_cub(tree, tmp_path / "tars"), tmp_path / "new"
    command = [sys.executable, "-c", UNPACK.format("cub"), str(archives), str(new)]
    kill_while(command, (new / "images/001.A_b/0005.jpg").exists, seed)
    whole = {p: c for p, c in files_below(new).items() if not p.endswith(PARTIAL)}
    expected = files_below(tree)
    assert 5 < len(whole) < len(expected)
    assert whole.items() <= expected.items()
    assert unpack_cub(archives, new).kept == len(whole)
    assert files_below(new) == expected


def test_unpacking_ilsvrc_survives_kill_9(tmp_path):
    names = [f"n{k:08d}" for k in range(30)]
    inner = [
        (f"{w}.tar", tar_bytes((f"{w}_{i}.JPEG", bytes([i]) * 9000) for i in range(100)))
        for w in names
    ]
    put(tmp_path / "tars/ILSVRC2012_img_train.tar", tar_bytes(inner))
    new = tmp_path / "new"
    command = [sys.executable, "-c", UNPACK.format("ilsvrc"), str(tmp_path / "tars"), str(new)]
    folder = new / "ILSVRC/Data/CLS-LOC/train"
    kill_while(command, (folder / names[2] / f"{names[2]}_1.JPEG").exists, seed=0)
    before = len(files_below(new))
    done = unpack_ilsvrc(tmp_path / "tars", new)
    assert 0 < done.written < 3000
    assert abs(done.kept - before) <= 1  # but for the one that was half written
    unpack_ilsvrc(tmp_path / "tars", tmp_path / "unbroken")
    assert files_below(new) == files_below(tmp_path / "unbroken")
