"""Kill preparation, training and evaluation at random moments, and compare what comes out.

    python benchmarks/kill_nine.py [--kills 20] [--seed 0]

A miniature of CUB-200-2011, in its authors' archives, is prepared, trained on and evaluated once
without a break. Then the same is done while every command is killed with SIGKILL again and again,
at a random moment of the time that it took before, and started anew, until it may finish. What was
finished before its kill came is thrown away and does not count. The index table, the weights and
the localization tables must be the same bytes.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from wsol.datasets.backgrounds.manifest import write_manifest
from wsol.datasets.birds import BirdsConfig

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "study" / "real"))
import miniatures  # noqa: E402

BIRDS = BirdsConfig(n_train=400, n_fullsup=130, n_test=320, n_background=40)
SETTINGS = {"method": "background", "backbone": "small8", "input_size": 64, "epochs": 12}
SETTINGS |= {"batch_size": 20, "background_batch": 10, "checkpoint_seconds": 0.2}
MADE = {"prepare": ("raw", "data/index.csv", "data/images.jsonl", "data/archives.json")}
MADE |= {"train": ("run", "resume", "cache"), "evaluate": ("out",)}
EVALUATE = """
import sys
from wsol.datasets.index import read_index
from wsol.evaluation.run import evaluate_run
data, run, out = sys.argv[1:]
result = evaluate_run(run + "/weights.safetensors", read_index(data + "/index.csv"), data,
                      maps=out + "/maps", resume_dir=out)
result.save_tables(out + "/tables", "run")
"""


def commands(source: Path, work: Path) -> dict[str, list[str]]:
    """The commands of the three stages, from the archives in `source` to tables in `work`."""
    data, run = str(work / "data"), str(work / "run")
    cub = [str(work / "raw"), data, f"--archives={source / 'archives'}"]
    cub += [f"--checksums={source / 'archives' / 'MD5SUMS'}", f"--fullsup={source / 'CUBV2'}"]
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    train = [f"--data={data}", f"--out={run}", f"--resume={work / 'resume'}", *settings]
    return {
        "prepare": ["-m", "wsol.cli", "prepare", "cub", *cub],
        "train": ["-m", "wsol.cli", "train", *train, f"--set=cache={work / 'cache'}"],
        "evaluate": ["-c", EVALUATE, data, run, str(work / "out")],
    }


def start(words: Sequence[str]) -> subprocess.Popen:
    """Start a command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(words: Sequence[str]) -> float:
    """Run a command to its end; returns its seconds. Raises RuntimeError if it fails."""
    begin = time.perf_counter()
    child = start(words)
    errors = child.communicate()[1]
    if child.returncode:
        raise RuntimeError(errors[-2000:])
    return time.perf_counter() - begin


def kill_after(words: Sequence[str], seconds: float) -> bool:
    """Kill a command after so long; whether it was still running."""
    child = start(words)
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return True
    if child.returncode:
        raise RuntimeError(child.stderr.read()[-2000:])
    return False


def kill_often(name: str, work: Path, words: Sequence[str], moments: Iterator[float]) -> None:
    """Kill a command at moments, in seconds, of which none comes too late; then let it finish."""
    for moment in moments:
        while not kill_after(words, moment):
            for made in MADE[name]:
                path = work / made
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            moment *= 0.7
        print(f"{name}: killed after {moment:.1f} s", flush=True)
    finish(words)


def background_images(work: Path) -> None:
    """The images that a user would have put there."""
    folder = work / "data" / "background"
    if not folder.exists():
        with tempfile.TemporaryDirectory() as drawn:
            miniatures.draw_birds(Path(drawn), BIRDS, workers=2)
            folder.parent.mkdir(parents=True, exist_ok=True)
            (Path(drawn) / "background").rename(folder)
        write_manifest(folder, "drawn", "MIT")


def digests(work: Path) -> dict[str, str]:
    """What must not depend on the kills."""
    files = [work / "data" / "index.csv", work / "run" / "weights.safetensors"]
    files += sorted((work / "out" / "tables").glob("*.npz"))
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    moments = random.Random(given.seed)
    miniatures.CONFIG = BIRDS
    with tempfile.TemporaryDirectory() as folder:
        source, whole, broken = (Path(folder) / name for name in ("source", "whole", "broken"))
        miniatures.make_cub(source)
        for work in (whole, broken):
            background_images(work)
        took = {name: finish(words) for name, words in commands(source, whole).items()}
        print("unbroken: " + ", ".join(f"{name} {s:.1f} s" for name, s in took.items()), flush=True)
        # The paths in the index start from its own folder: they are the same in both.
        for number, (name, words) in enumerate(commands(source, broken).items()):
            kills = given.kills // 3 + (number < given.kills % 3)
            when = (moments.uniform(0.2, 1) * took[name] for _ in range(kills))
            kill_often(name, broken, words, when)
        expected, found = digests(whole), digests(broken)
    different = [name for name in expected if expected[name] != found.get(name)]
    print(f"{given.kills} kills; {len(expected)} files, {len(different)} differ: {different}")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
