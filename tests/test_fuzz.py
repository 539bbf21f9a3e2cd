"""A short run of tests/fuzz.py."""

from fuzz import fuzz


def test_damaged_files_are_read_or_refused_in_one_error(tmp_path):
    done, problems = fuzz(tmp_path, seed=1, seconds=60, cases=600)
    assert problems == []
    assert done.total() > 100
