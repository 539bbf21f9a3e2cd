"""Texts quote the committed report; after a reproduction elsewhere there is another one."""

import subprocess

import pytest

from wsol import project_root


def skip_unless_committed(*paths: str) -> None:
    """Skip a test where files differ from the commit, as after `make reproduce` elsewhere.

    paths : files and folders from the root. Outside a git repository all count as committed.
    """
    words = ["git", "diff", "--quiet", "HEAD", "--", *paths]
    done = subprocess.run(words, cwd=project_root(), capture_output=True, check=False)
    if done.returncode == 1:
        pytest.skip(f"not the committed {', '.join(paths)}")
