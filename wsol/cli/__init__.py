"""The command line: ``wsol --help``.

Anything wrong with the input is one line on stderr and exit status 2. Shell completion:
``eval "$(_WSOL_COMPLETE=bash_source wsol)"`` (or zsh_source, fish_source).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from wsol.cli.data import ANY, COUNT, FILE, FOLDER, background, prepare
from wsol.cli.evaluation import evaluate

# The library is imported inside the commands, so that --help and completion are quick.

INPUT_ERRORS = (ValueError, OSError, RuntimeError, ArithmeticError)


class Commands(click.Group):
    """A group whose commands report input errors in one line, with exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.exceptions.Abort):
            raise  # both are RuntimeErrors
        except INPUT_ERRORS as error:
            message = error.summary() if hasattr(error, "summary") else str(error)
            click.echo(f"wsol {ctx.invoked_subcommand}: {message}", err=True)
            ctx.exit(2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wsol")
def main() -> None:
    """Weakly supervised object localization with background images."""


def parameters(command):
    """The options that give a training or a notebook its parameters."""
    for option in (
        click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Parameter."),
        click.option("--section", "sections", multiple=True, help="Section of the params files."),
        click.option("--params-file", "files", multiple=True, type=FILE, help="YAML file."),
    ):
        command = option(command)
    return command


def _parameters(files: tuple[Path, ...], sections: tuple[str, ...], settings: tuple[str, ...]):
    from wsol import project_root
    from wsol.notebook.parameters import read_sections, read_settings

    files = files or (project_root() / "params.yaml",)
    return read_sections(files, sections) | read_settings(settings)


@main.command()
@click.option("--data", type=FOLDER, required=True, help="Prepared data set (index.csv).")
@click.option("--out", type=FOLDER, required=True, help="Folder of the run.")
@click.option("--resume", type=FOLDER, help="Folder of checkpoints to resume from.")
@click.option("--n-background", type=COUNT, help="Background images to use; all by default.")
@parameters
def train(data, out, resume, n_background, files, sections, settings) -> None:
    """Train one network. A run that is in OUT already is replaced.

    \b
    wsol train --data data/birds --out runs/mine/cam-0 --set method=cam --set epochs=3
    wsol train --data data/cub --out runs/cub/background-0 --set seed=0 \\
        --params-file study/params/cub.yaml --section train --section background
    """
    from wsol.notebook.parameters import ParameterError, check_parameters, read_settings
    from wsol.training.config import config_from, defaults_of, execution_from
    from wsol.training.distributed import rank
    from wsol.training.loop import train_from_disk
    from wsol.training.runs import WEIGHTS

    values = _parameters(files, sections, settings)
    if "method" not in values:
        raise ParameterError('no method: give a section that has one, or "--set method=cam"')
    known = defaults_of(values["method"], values.get("combine"))
    check_parameters({n: v for n, v in values.items() if n in known}, known)
    check_parameters(read_settings(settings), known)  # a section may serve others too
    config, execution = config_from(values), execution_from(values)
    train_from_disk(config, data, out, n_background, resume, execution)
    if rank() == 0:
        click.echo(out / WEIGHTS)


@main.command(hidden=True)  # what several processes run
@click.argument("weights", type=FILE)
@click.option("--data", type=FOLDER, required=True)
@click.option("--split", required=True)
@click.option("--out", type=FOLDER, required=True)
@click.option("--resume", type=FOLDER)
@click.option("--set", "settings", multiple=True)
def predict(weights, data, split, out, resume, settings) -> None:
    """Predict the maps of one split."""
    from wsol.datasets.index import INDEX, read_index, rows_of
    from wsol.evaluation.predict import predict_split
    from wsol.notebook.parameters import read_settings
    from wsol.training.config import execution_from

    rows = rows_of(read_index(data / INDEX), split)
    predict_split(weights, rows, data, out, execution_from(read_settings(settings)), resume)


@main.command()
@click.argument("run")
@click.argument("images", nargs=-1, required=True, type=ANY)
@click.option("--out", type=FOLDER, required=True, help="Folder for boxes.csv, boxes.coco.json.")
@click.option("--overlays", is_flag=True, help="Write the images with score map and box.")
@click.option("--yolo", is_flag=True, help="Also write YOLO text files into OUT/labels.")
@click.option("--skip", is_flag=True, help="Skip images that cannot be read.")
@click.option("--map", type=click.Choice(["class", "foreground", "product"]), default="class")
@click.option("--top", type=COUNT, default=1, show_default=True, help="Classes per image.")
@click.option("--evaluation", type=FOLDER, help="Localization tables of the run.")
@click.option("--tau", type=float, help="Score-map threshold, instead of the evaluation's.")
@click.option("--read-out", type=click.Choice(["raw", "relu", "sigmoid"]), help="With --tau.")
@click.option("--data", type=FOLDER, help="Data set of the run, for the class names.")
@click.option("--device", default="auto", show_default=True, help="auto: a GPU if there is one.")
@click.option("--batch-size", type=COUNT, default=32, show_default=True)
def localize(run, images, out, **options) -> None:
    """Boxes for images without labels.

    RUN is the folder of a trained run or the name of a published one.

    \b
    wsol localize birds/background-0 photos/ --out runs/mine/boxes --overlays
    """
    from wsol.inference.export import localize_to_folder

    result = localize_to_folder(images, run, out, **options)
    for line in result.skipped:
        click.echo(f"skipped {line}", err=True)
    for line in result.without_box:
        click.echo(f"no box: {line} (constant map)", err=True)
    for path in result.files:
        click.echo(path)


@main.command()
@click.argument("notebook", type=FILE)
@click.argument("out", type=FILE)
@parameters
def notebook(notebook, out, files, sections, settings) -> None:
    """Execute a notebook with parameters.

    \b
    wsol notebook notebooks/30_train.ipynb runs/mine/30_train.ipynb \\
        --section train --section cam --set method=cam --set out=runs/mine/cam-0
    """
    from wsol.notebook import describe_failure, run_notebook
    from wsol.notebook.parameters import ParameterError

    start = time.perf_counter()
    try:
        run_notebook(notebook, out, _parameters(files, sections, settings))
    except (ParameterError, OSError) as error:
        raise ValueError(f"{notebook.name}: {error}") from error
    except Exception as error:  # of a cell, or of papermill
        failed = out.with_name(f"{out.stem}.failed.ipynb")
        where = f" (see {failed.as_posix()})" if failed.is_file() else ""
        click.echo(f"{notebook.name}: {describe_failure(error)}{where}", err=True)
        sys.exit(1)
    click.echo(f"{notebook.name}: {out.as_posix()}, {time.perf_counter() - start:.0f} s")


@main.group()
def report() -> None:
    """Show the report, or write its pages."""


@report.command()
def show() -> None:
    """The headline table, and where the report is."""
    from wsol import project_root
    from wsol.report.tables import report_text

    click.echo(report_text(project_root()))


@report.command()
@click.argument("executed", nargs=-1, required=True, type=FILE)
@click.option("--out", type=FOLDER, required=True)
@click.option("--other", "others", multiple=True, help="Pages made elsewhere, for links.")
def pages(executed, out, others) -> None:
    """Executed notebooks as HTML pages."""
    from wsol.report.pages import write_notebook_pages

    for path in write_notebook_pages(executed, out, others):
        click.echo(path)


@report.command()
def site() -> None:
    """Front page, documents and model cards as HTML pages below reports/."""
    from wsol import project_root
    from wsol.report.pages import write_site

    for path in write_site(project_root()):
        click.echo(path)


@report.command()
@click.argument("runs", nargs=-1, required=True, type=FOLDER)
@click.option("--evaluations", type=FOLDER, default=Path("runs/evaluate"), show_default=True)
@click.option("--out", type=FOLDER, required=True)
def publish(runs, evaluations, out) -> None:
    """Trained runs as a part of the package, each with a model card."""
    from wsol.inference.published import publish as publish_run

    for run in runs:
        click.echo(publish_run(run, evaluations / run.name / "localization", out))


main.add_command(prepare)
main.add_command(evaluate)
main.add_command(background)
