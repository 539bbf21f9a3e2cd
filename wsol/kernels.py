"""Compiled functions: numba, with a cache on disk that knows all the files they are made of.

numba looks at a function's own file to tell whether what it has cached is still right. Here
functions of one file are compiled into those of another, so the cache has a folder of its own for
each state of all of them; otherwise an edit of `component_tree.py` would change nothing in
`boxes.py`.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from numba import config, njit

FILES = ("boxes.py", "component_tree.py", "neighbourhoods.py", "pixel_order.py", "pixels.py")
HERE = Path(__file__).parent


def digest(folder: Path = HERE) -> str:
    """Name of the state of all files with compiled functions."""
    state = hashlib.sha256()
    for name in FILES:
        state.update((folder / name).read_bytes())
    return state.hexdigest()[:12]


def _cache_folder() -> str:
    """Beside Python's own compiled files; where those cannot be written, wherever numba likes."""
    beside = HERE / "__pycache__"
    if config.CACHE_DIR or not os.access(beside if beside.is_dir() else HERE, os.W_OK):
        return config.CACHE_DIR
    return str(beside / f"kernels-{digest()}")


CACHE = _cache_folder()


def _compiled(function: Callable, **options) -> Callable:
    before, config.CACHE_DIR = config.CACHE_DIR, CACHE
    try:
        return njit(cache=True, nogil=True, **options)(function)
    finally:
        config.CACHE_DIR = before


def kernel(function: Callable) -> Callable:
    """Compile a function when it is first called; it runs without the interpreter lock."""
    return _compiled(function)


def inlined(function: Callable) -> Callable:
    """The same, copied into its callers: for what is called once per pixel."""
    return _compiled(function, inline="always")
