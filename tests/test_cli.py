"""The command line: help without loading torch, input errors in one line with exit status 2."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from click.testing import CliRunner, Result
from nbformat.v4 import new_code_cell, new_notebook

from wsol.cli import main
from wsol.cli.data import DATA_SETS
from wsol.datasets.prepare import READERS
from wsol.training.runs import WEIGHTS


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="wsol")


def commands(group=main, prefix=()):
    for name, command in group.commands.items():
        yield (*prefix, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*prefix, name))


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_has_help_and_every_option_says_what_it_is(words) -> None:
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: wsol {' '.join(words)}")


def test_every_kind_of_data_set_is_offered() -> None:
    assert {*DATA_SETS} == {*READERS, "birds"}


def test_help_loads_neither_torch_nor_pandas() -> None:
    code = "import sys, wsol.cli; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("train --data no --out run", "no method"),
        ("train --data no --out run --set method=gradcam", "unknown method 'gradcam'"),
        ("train --data no --out run --set method=cam --set epochs=ten", "'epochs' is a number"),
        ("train --data no --out run --set method=cam --set epoch=3", "did you mean epochs"),
        ("train --data no --out run --set method=cam --set attach=late", "'attach'"),
        ("train --data no --out run --set method=cam --set learning_rate=0", "above 0"),
        ("train --data no --out run --set method=cam", "no/index.csv: missing file; wsol prepare"),
        ("train --data no --out run --section nope --set method=cam", "no section 'nope'"),
        ("evaluate nothing", "score maps need --metadata"),
        ("evaluate nothing --data no", "nothing is no run"),
        ("evaluate nothing --metadata no", "no/image_ids.txt"),
        ("localize nothing images --out out", "nothing"),
        ("prepare cub raw", "RAW and OUT"),
        ("prepare cub raw out --fullsup none", "raw"),
        ("prepare cub raw out --boxes b.csv", "--boxes is for folder, not cub"),
        ("prepare birds out --shares 1 0 0", "--shares is for folder, not birds"),
        ("prepare folder raw out --download", "--download is for pets, not folder"),
        ("evaluate maps --metadata no --data no", "--data has no meaning for score maps"),
        ("evaluate maps --metadata no --shard 1/2 p --json j", "no meaning for a shard"),
        ("evaluate parts --join", "no table of a shard in parts"),
        ("background folder out no --source me --licence CC0", "no: missing folder"),
        ("evaluate parts --join --masks no", "--masks has no meaning for joined shards"),
        ("evaluate maps --metadata no --table t.xlsx", "another ending than .csv and .npz"),
        ("evaluate maps --metadata no --table t.csv --json t.csv", "are one file, t.csv"),
        ("background check nothing", "manifest.csv"),
        ("notebook no.ipynb out.ipynb", "is missing"),
        ("report publish nothing --out out", "localization"),
    ],
)
def test_an_input_error_is_one_message_with_status_2(words, reason, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("train: {epochs: 1}\n")
    result = run(*words.split())
    assert result.exit_code == 2
    assert result.stderr.startswith(f"wsol {words.split()[0]}: ")
    assert reason in result.stderr
    assert "Traceback" not in result.output


def test_a_device_that_is_not_there_is_refused(tiny_birds, tmp_path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    result = run("train", "--data", tiny_birds, "--out", tmp_path, *_sets(device="cuda:0"))
    assert (result.exit_code, "sees no CUDA device" in result.stderr) == (2, True)


def test_options_of_score_maps_are_refused_for_a_run(tmp_path) -> None:
    (tmp_path / WEIGHTS).touch()
    result = run("evaluate", tmp_path, "--data", tmp_path, "--table", tmp_path / "x.csv")
    assert (result.exit_code, "no meaning for a run" in result.stderr) == (2, True)


def _sets(**settings) -> list[str]:
    small = dict(method="cam", backbone="small8", input_size=32, epochs=1, batch_size=20, threads=1)
    return [f"--set={name}={json.dumps(value)}" for name, value in (small | settings).items()]


def test_train_evaluate_and_localize_work_one_after_the_other(tiny_birds, tmp_path) -> None:
    trained = run("train", "--data", tiny_birds, "--out", tmp_path / "cam-0", *_sets(seed=0))
    assert trained.exit_code == 0, trained.output
    assert Path(trained.stdout.strip()).is_file()
    tables = tmp_path / "cam-0" / "localization"
    evaluated = run("evaluate", tmp_path / "cam-0", "--data", tiny_birds, "--out", tables)
    assert evaluated.exit_code == 0, evaluated.output
    assert "gt_known_loc_error" in evaluated.output
    assert len(list(tables.glob("cam-0-class-*.npz"))) == 2
    json_file = tmp_path / "numbers.json"
    published = run("evaluate", "birds/cam-0", "--data", tiny_birds, "--json", json_file)
    assert published.exit_code == 0, published.output
    numbers = json.loads(json_file.read_text())["class"]
    assert f"{numbers['gt_known_loc_error']:7.2f} %" in published.output
    images = sorted((tiny_birds / "images").rglob("*.jpg"))[:3]
    localized = run("localize", tmp_path / "cam-0", *images, "--out", tmp_path / "boxes")
    assert localized.exit_code == 0, localized.output
    assert len((tmp_path / "boxes" / "boxes.csv").read_text().splitlines()) == 4


def test_a_cell_that_fails_is_told_in_one_line_with_status_1(tmp_path) -> None:
    path, out = tmp_path / "a.ipynb", tmp_path / "out" / "a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    result = run("notebook", path, out)
    assert result.exit_code == 1
    assert "cell [1] raised ZeroDivisionError" in result.stderr.splitlines()[-1]
    assert not out.exists()
    assert out.with_name("a.failed.ipynb").is_file()
