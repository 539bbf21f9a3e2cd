"""The command `wsol evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from wsol.cli.data import ANY, COUNT, FILE, FOLDER, is_given
from wsol.training import WEIGHTS, run_folder

OF_MAPS = "metadata fullsup predictions masks map_class protocol shard"
IGNORED = {  # options by what is evaluated
    "a run": f"{OF_MAPS} table_file join",
    "joined shards": f"{OF_MAPS} data out workers",
    "a shard": "data out json_file table_file",
    "score maps": "data out",
}


@click.command()
@click.argument("target", metavar="RUN|SCOREMAPS", type=ANY)
@click.option("--data", type=FOLDER, help="Of a run: the prepared data set.")
@click.option("--out", type=FOLDER, help="Of a run: folder for its localization tables.")
@click.option("--metadata", type=FOLDER, help="Of score maps: text files, or a prepared set.")
@click.option("--fullsup", nargs=2, type=ANY, help="Score maps and metadata to choose tau on.")
@click.option("--predictions", type=FILE, help="CSV of image_id and the top five classes, or all.")
@click.option("--masks", type=FOLDER, help="For PxAP: image id without its ending, .png.")
@click.option("--map-class", type=click.Choice(["label", "predicted"]), default="label")
@click.option("--protocol", default="choe2020", show_default=True, help="See docs/heatmaps.md.")
@click.option("--json", "json_file", type=FILE, help="Write all numbers and curves.")
@click.option("--table", "table_file", type=FILE, help="Write one row per image, .csv or .npz.")
@click.option("--workers", type=COUNT, default=1, show_default=True, help="Threads.")
@click.option("--shard", nargs=2, metavar="I/N PARTS", help="Write the I-th of N parts, a table.")
@click.option("--join", is_flag=True, help="SCOREMAPS is the folder PARTS.")
@click.pass_context
def evaluate(
    context, target, data, out, json_file, table_file, protocol, workers, **options
) -> None:
    """Evaluate a trained run, or score maps of any method.

    RUN is the folder of a trained run or the name of a published one, such as birds/background-0.
    SCOREMAPS is a folder of <image_id>.npy, values in [0, 1], or one .npy of (N, H, W); its
    metadata is in the format of Choe et al. (CVPR 2020), or the folder of a prepared data set.

    \b
    wsol evaluate runs/mine/cam-0 --data data/birds --out runs/mine/localization
    wsol evaluate SCOREMAPS --metadata DIR --fullsup FULLSUP_SCOREMAPS FULLSUP_DIR \\
        --predictions predictions.csv --json result.json --table images.csv
    wsol evaluate SCOREMAPS --metadata DIR --shard 1/8 parts  # and 2/8 to 8/8
    wsol evaluate parts --join --json result.json
    """
    target = run_folder(target)
    is_run = (target / WEIGHTS).is_file()
    if not is_run and not options["join"] and options["metadata"] is None:
        raise ValueError(f"{target} is no run (no {WEIGHTS}); score maps need --metadata")
    part = "joined shards" if options["join"] else "a shard" if options["shard"] else ""
    kind = "a run" if is_run else part or "score maps"
    for option in context.command.params:
        if option.name in IGNORED[kind].split() and is_given(context, option.name):
            raise ValueError(f"{option.opts[0]} has no meaning for {kind}")
    if is_run:
        return _evaluate_run(target, data, out, json_file, workers)
    from wsol.datasets.files import check_writable, write_table, write_text
    from wsol.evaluation import summary as numbers
    from wsol.report.format import format_summary

    if table_file and table_file.suffix not in (".csv", ".npz"):
        raise ValueError(f"{table_file} has another ending than .csv and .npz")
    if table_file and json_file == table_file:
        raise ValueError(f"--json and --table are one file, {table_file}")
    check_writable(*filter(None, (json_file, table_file)))
    shard = options.pop("shard")
    if options.pop("join"):
        summary, table = numbers.join_parts(target)
    else:
        if table_file and protocol != "choe2020":
            raise ValueError(f"--table is of choe2020; {protocol} has none")
        options |= dict(zip(("shard", "parts"), shard or (), strict=False))
        options |= {"protocol": protocol, "workers": workers}
        summary, table = numbers.evaluate_score_maps(target, progress=True, **options)
    if summary is None:
        return None
    click.echo(format_summary(summary))
    if json_file:
        write_text(json_file, json.dumps(summary, indent=2) + "\n")
    if table_file and table and table_file.suffix == ".npz":
        table.save(table_file)
    elif table_file and table:
        write_table(numbers.image_rows(table, summary["tau"]), table_file)


def _evaluate_run(
    run: Path, data: Path | None, out: Path | None, json_file: Path | None, workers: int
) -> None:
    from wsol.datasets.files import check_writable, write_text
    from wsol.datasets.index import INDEX, TEST, TRAIN_FULLSUP, read_index
    from wsol.evaluation.run import evaluate_run
    from wsol.evaluation.summary import summarize
    from wsol.report.format import format_summary

    if data is None:
        raise ValueError("a run needs --data, the prepared data set to evaluate it on")
    table = out and out / f"{run.resolve().name}-class-{TEST}.npz"
    check_writable(*filter(None, (table, json_file)))
    index = read_index(data / INDEX)
    meta = {"dataset": data.resolve().name}
    result = evaluate_run(run / WEIGHTS, index, data, meta=meta, workers=workers)
    summaries = {}
    for kind in dict.fromkeys(kind for kind, _ in result.tables):
        pair = (result.tables[kind, split] for split in (TEST, TRAIN_FULLSUP))
        summaries[kind] = summarize(*pair)
        click.echo(f"{kind} map: {format_summary(summaries[kind])}")
    if json_file:
        write_text(json_file, json.dumps(summaries, indent=2) + "\n")
    if out is not None:
        result.save_tables(out, run.resolve().name)
