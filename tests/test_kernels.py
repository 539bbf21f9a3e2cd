"""The cache of compiled functions is renewed by an edit of any file that they are made of."""

import shutil
from pathlib import Path

import pytest

from wsol.evaluation import boxes
from wsol.evaluation import contours as kernels


def test_every_file_with_a_compiled_function_counts() -> None:
    marks = ("@kernel", "@inlined")
    users = {
        path.name
        for path in kernels.HERE.rglob("*.py")
        if any(line.startswith(marks) for line in path.read_text(encoding="utf-8").splitlines())
    }
    assert users < set(kernels.FILES)
    assert set(kernels.FILES) - users == {"neighbourhoods.py"}  # the tables that they look up


@pytest.mark.parametrize("name", kernels.FILES)
def test_an_edit_anywhere_gives_another_cache(tmp_path: Path, name: str) -> None:
    for file in kernels.FILES:
        shutil.copy(kernels.HERE / file, tmp_path)
    assert kernels.digest(tmp_path) == kernels.digest()
    with open(tmp_path / name, "a", encoding="utf-8") as file:
        file.write("\n")
    assert kernels.digest(tmp_path) != kernels.digest()


def test_compiled_functions_lie_in_that_cache() -> None:
    if kernels.CACHE:
        assert boxes._contours._cache.cache_path.startswith(kernels.CACHE)
