"""Start a module of this library in several processes, as `torchrun` does, from a notebook too.

A child process, because CUDA must not be touched before a fork and because a notebook's own
process has long imported everything.
"""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from wsol.paths import project_root

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def launch(
    module: str, words: Sequence[str], settings: Mapping[str, object], processes: int
) -> str:
    """Run ``python -m module words --set name=value ...`` in processes on this machine.

    Returns what was printed. Raises RuntimeError with its last lines if a process fails.
    """
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, "-m", *torchrun, "-m", module, *words, *setting_words(settings)]
    paths = [str(project_root()), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does, without its warning
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_end_with_parent,
    )
    if done.returncode:
        own = re.split(r"^[EW]\d{4} .*torch/distributed/", done.stdout, maxsplit=1, flags=re.M)[0]
        last = "\n".join((own.strip() or done.stdout).splitlines()[-20:])  # without torchrun's own
        raise RuntimeError(f"{module} failed in {processes} processes:\n{last}")
    return done.stdout


def _end_with_parent() -> None:
    """Have Linux end torchrun, and so its processes, when a killed notebook leaves it behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def setting_words(settings: Mapping[str, object]) -> list[str]:
    """The words ``--set=name=value`` that `wsol.run_notebook.read_settings` reads back."""
    return [
        f"--set={name}={json.dumps(value, ensure_ascii=False)}" for name, value in settings.items()
    ]
