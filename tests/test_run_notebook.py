"""Parameters reach a notebook with their types, and wrong ones are refused before it runs."""

import tempfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from wsol import project_root
from wsol.notebook import normalize, run_notebook
from wsol.notebook.parameters import (
    ParameterError,
    check_parameters,
    notebook_defaults,
    parse_value,
    read_sections,
    read_settings,
)

CELL = """\
# comment
lr: float = 0.1  # learning rate
epochs = 3
method = "cam"
levels: int | None = None
sizes = [1, 2]
flip = False
"""


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return new_notebook(cells=[new_code_cell(CELL, metadata={"tags": ["parameters"]})])


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        ("5", 5),
        ("-0.5", -0.5),
        ("true", True),
        ("null", None),
        ("[1, 1e-2]", [1, 0.01]),
        ("007", 7),
        ('"5"', "5"),
        ("no", "no"),
        ("2026-11-01", "2026-11-01"),
        ("runs/a b", "runs/a b"),
        ("a: b", "a: b"),
        ("{a: 1}", {"a": 1}),
        ("*x", "*x"),
        ("", ""),
    ],
)
def test_a_word_becomes_the_value_that_it_looks_like(word: str, value: object) -> None:
    got = parse_value(word)
    assert (type(got), got) == (type(value), value)


def test_a_later_section_wins_and_an_entry_is_a_parameter(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(
        "train: {lr: 1e-3, epochs: 2}\nmethods:\n  cam: {lr: 0.5}\nseeds: [0, 1]\nname: '007'\n"
    )
    got = read_sections([params], ["train", "methods.cam", "seeds", "name"])
    assert got == {"lr": 0.5, "epochs": 2, "seeds": [0, 1], "name": "007"}


@pytest.mark.parametrize(
    ("section", "words"), [("nope", "no section 'nope'"), ("deep.b.c", "no section")]
)
def test_a_section_that_is_missing_or_not_flat_is_refused(
    section: str, words: str, tmp_path: Path
) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("deep: {a: {x: 1}, b: 2}\n")
    with pytest.raises(ParameterError, match=words):
        read_sections([params], [section])


@pytest.mark.parametrize("word", ["seed", "=3", "5=3", "a b=3"])
def test_a_setting_without_a_name_is_refused(word: str) -> None:
    with pytest.raises(ParameterError, match="NAME=VALUE"):
        read_settings([word])


def test_a_value_may_hold_an_equals_sign() -> None:
    assert read_settings(["rule=a=b"]) == {"rule": "a=b"}


def test_defaults_are_those_of_the_parameters_cell(notebook: nbformat.NotebookNode) -> None:
    assert notebook_defaults(notebook) == {
        "lr": 0.1,
        "epochs": 3,
        "method": "cam",
        "levels": None,
        "sizes": [1, 2],
        "flip": False,
    }


def test_a_derived_default_is_refused(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[0].source += "steps = 10 * epochs\n"
    with pytest.raises(ParameterError, match="'steps' is not a literal"):
        notebook_defaults(notebook)


def test_fitting_parameters_are_accepted(notebook: nbformat.NotebookNode) -> None:
    fitting = {"lr": 1, "epochs": 2.0, "levels": "all", "sizes": [], "flip": True, "method": None}
    check_parameters(fitting, notebook_defaults(notebook))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"epoch": 3}, r"no parameter 'epoch' \(did you mean epochs\?\)"),
        ({"zzz": 3}, "no parameter 'zzz'$"),
        ({"lr": "1e-4"}, "'lr' is a number, not '1e-4'"),
        ({"flip": "false"}, "'flip' is true or false, not 'false'"),
        ({"epochs": True}, "'epochs' is a number, not True"),
        ({"sizes": 3, "methd": "cam"}, "'sizes' is a list, not 3.*did you mean method"),
    ],
)
def test_unknown_and_unlike_parameters_are_refused(
    parameters: dict, words: str, notebook: nbformat.NotebookNode
) -> None:
    with pytest.raises(ParameterError, match=words):
        check_parameters(parameters, notebook_defaults(notebook))


def test_nothing_runs_where_notebook_and_parameters_do_not_fit(
    notebook: nbformat.NotebookNode, tmp_path: Path
) -> None:
    path, out = tmp_path / "a.ipynb", tmp_path / "runs" / "a.ipynb"
    nbformat.write(notebook, path)
    for source, target, parameters in (
        (path, out, {"epoch": 1}),
        (path, path, {}),
        (tmp_path / "b.ipynb", out, {}),
    ):
        with pytest.raises(ParameterError):
            run_notebook(source, target, parameters)
    assert not out.parent.exists()


def test_sections_may_be_entries_of_one_parameter(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("train: {lr: 1e-3, epochs: 2}\ncam: {lr: 0.5}\n")
    sections = ["settings=train", "settings=cam", "own.cam=cam"]
    assert read_sections([params], sections) == {
        "settings": {"lr": 0.5, "epochs": 2},
        "own": {"cam": {"lr": 0.5}},
    }


def test_two_runs_leave_identical_notebooks(tmp_path: Path) -> None:
    path = tmp_path / "a {folder}" / "a.ipynb"
    path.parent.mkdir()
    code = (
        "import sys, time, pathlib\nfrom tqdm.auto import tqdm\n"
        "for i in tqdm(range(2)):\n    print(i, flush=True)\n    time.sleep(0.05)\n"
        "print('a note', file=sys.stderr)\nprint(seed, pathlib.Path.cwd().name)\nobject()"
    )
    cells = [new_code_cell("seed = 0", metadata={"tags": ["parameters"]}), new_code_cell(code)]
    (tmp_path / "dvc.yaml").touch()
    nbformat.write(new_notebook(cells=cells), path)
    outs = [tmp_path / "runs {x}" / name / "a.ipynb" for name in "12"]
    for out in outs:
        run_notebook(path, out, {"seed": 7})
    assert outs[0].read_bytes() == outs[1].read_bytes()
    executed = nbformat.read(outs[0], as_version=4)
    stdout, stderr, result = executed.cells[-1].outputs
    assert stdout.text == "0\n1\n7 a {folder}\n"
    assert stderr.text == "a note\n"
    assert result.data["text/plain"] == "<object>"
    assert [path.name for path in outs[0].parent.iterdir()] == ["a.ipynb"]


@pytest.mark.parametrize(("name", "transport"), [("t", "ipc"), ("t" * 120, "tcp")])
def test_kernels_take_no_ports_unless_they_must(
    name: str, transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = tmp_path / "a.ipynb", tmp_path / "out" / "a.ipynb"
    code = "import ipykernel, json\njson.load(open(ipykernel.get_connection_file()))['transport']"
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), path)
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, name)
        temporary.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        run_notebook(path, out, {})
        assert not list(temporary.iterdir())
    result = nbformat.read(out, as_version=4).cells[0].outputs[0]
    assert result.data["text/plain"] == repr(transport)


def test_normalizing_keeps_the_results_and_what_a_terminal_would_show() -> None:
    cell = new_code_cell("x", metadata={"tags": ["t"], "papermill": {"duration": 3.1}})
    cell.outputs = [
        new_output("stream", name="stdout", text="a\n10 %\r20"),
        new_output("display_data", data={"text/plain": "1"}),
        new_output("stream", name="stdout", text=" %\r30 %\r\nend"),
        new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}}),
    ]
    notebook = new_notebook(cells=[cell], metadata={"papermill": {}, "widgets": {}})
    normalize(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert cell.metadata == {"tags": ["t"]}
    assert [output.get("text") for output in cell.outputs] == ["a\n30 %\nend", None]


def test_the_root_is_found_from_below_and_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()
    below = tmp_path / "notebooks" / "deep"
    below.mkdir(parents=True)
    assert project_root(below) == tmp_path.resolve()
    assert project_root(Path("/")) == Path("/")  # outside a project, the folder itself
