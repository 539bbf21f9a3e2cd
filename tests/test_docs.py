"""Every public name says what it is, and of arrays and tensors, which shape they have."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "wsol").rglob("*.py"))
}
Public = ast.FunctionDef | ast.ClassDef

ARRAYS = re.compile(r"\b(NDArray|ndarray|ArrayLike|Tensor|Floats|Ints)\b")
_SIZE = r"(?:\d+ \+ [a-z ]+|\d*[A-Za-z]{1,2}\d?'?|\d+|\.\.\.|size)"
SHAPE = re.compile(
    rf"\({_SIZE}(?:,|(?:, {_SIZE})+)\)"  # (N,) (B, C, h, w) (..., 4) (2P, 2)
    r"|\b[A-Za-z] x [A-Za-z]\b|\b[Ss]hapes?\b|\b[Ss]calars?\b"
)

# Docstring and module name no shape, for a reason.
NO_SHAPE = {
    "wsol.datasets.birds.head.paint_eye": "takes a colour",
    "wsol.datasets.birds.head.paint_head": "takes a colour",
    "wsol.training.distributed.global_mean": "of values of any shape",
    "wsol.training.distributed.mean_over_all": "of values of any shape",
    "wsol.datasets.images.to_float": "of images of any shape",
    "wsol.evaluation.predict.predict_split": "as `wsol.evaluation.predict.predict`, which says it",
    "wsol.backbones.read_weights": "a state dict of any network",
    "wsol.backbones.first_of": "of features of any shape",
    "wsol.backbones.rename_deit": "a state dict",
}


def _public(tree: ast.Module) -> Iterator[Public]:
    for node in tree.body:
        if isinstance(node, Public) and not node.name.startswith("_"):
            yield node


TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
PUBLIC = {f"{name}.{node.name}": node for name, tree in TREES.items() for node in _public(tree)}


def _annotations(function: ast.FunctionDef) -> str:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    found = [argument.annotation for argument in arguments] + [function.returns]
    return " ".join(ast.unparse(annotation) for annotation in found if annotation)


def _says_shape(name: str) -> bool:
    module = name.rpartition(".")[0]
    places = [PUBLIC[name], TREES[module]]
    if re.fullmatch(r"wsol\.methods\.\w+\.losses", name):  # one interface, said once
        places.append(TREES["wsol.methods"])
    return any(SHAPE.search(ast.get_docstring(place) or "") for place in places)


def test_every_module_says_what_it_is_for() -> None:
    silent = {name for name, tree in TREES.items() if not ast.get_docstring(tree)}
    assert silent <= {"wsol.datasets"}  # an empty file


def test_every_public_function_and_class_has_a_docstring() -> None:
    assert len(PUBLIC) > 500
    assert [name for name, node in PUBLIC.items() if not ast.get_docstring(node)] == []


def test_functions_of_arrays_and_tensors_say_their_shapes() -> None:
    of_arrays = {
        name
        for name, node in PUBLIC.items()
        if isinstance(node, ast.FunctionDef) and ARRAYS.search(_annotations(node))
    }
    assert len(of_arrays) > 100
    assert {name for name in of_arrays if not _says_shape(name)} == set(NO_SHAPE)


@pytest.mark.parametrize(
    "text", ["(N,)", "(B, C, h, w)", "(..., 4)", "(n, 3, size, size)", "h x w maps"]
)
def test_a_shape_is_told_from_other_parentheses(text: str) -> None:
    assert SHAPE.search(text)
    assert not SHAPE.search("(Kou et al., 2019), (raw, sigmoid), (see `maps`), (CVPR 2020)")


@pytest.mark.filterwarnings("ignore:Error parsing type annotation")
def test_pages_are_made_of_the_docstrings(tmp_path: Path) -> None:
    from pdoc import pdoc, render  # takes a second

    render.configure(docformat="numpy")
    pdoc("wsol.evaluation.boxes", output_directory=tmp_path)
    page = (tmp_path / "wsol" / "boxes.html").read_text(encoding="utf-8")
    docstring = ast.get_docstring(PUBLIC["wsol.evaluation.boxes.contour_boxes"]) or ""
    assert docstring.partition(".")[0][:30] in page
    command = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "-m pdoc --docformat numpy" in command
