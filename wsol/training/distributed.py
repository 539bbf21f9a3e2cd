"""Several processes, one network: rank, device, agreement, and starting them.

`torchrun` starts the processes and tells each its rank in the environment; without it there is one.
"""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed as dist

import wsol
from wsol.methods.base import is_distributed

TIMEOUT = timedelta(hours=6)  # one process may decode a whole data set while the others wait
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def choose_device(name: str) -> torch.device:
    """The device of this process: with "auto" or "cuda" the GPU of its local rank.

    Raises ValueError if there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {name!r}, but this PyTorch sees no CUDA device")
    if not name.startswith("cuda"):
        return torch.device(name)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # repeatable matrix products
    if name == "cuda":
        name = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
    elif world_size() > 1:
        raise ValueError(f"device is {name!r}, but {world_size()} processes need a GPU each")
    device = torch.device(name)
    if device.index >= torch.cuda.device_count():
        raise ValueError(f"device is {name!r}, but there are {torch.cuda.device_count()} GPUs")
    return device


def set_precision(precision: str) -> None:
    """Keep float32 exact on a GPU, unless the precision is "tf32"."""
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes, if `torchrun` started several, and leave them at the end."""
    if world_size() == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        # gloo's threads may still hold Python objects, for which they need the interpreter lock;
        # its destructor waits for them and holds it.
        time.sleep(0.2)
        dist.destroy_process_group()


def agree(values: list[int], what: str) -> None:
    """Raise RuntimeError unless these numbers are the same in every process."""
    if not is_distributed():
        return
    gathered: list[list[int] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, values)
    if any(other != values for other in gathered):
        raise RuntimeError(f"{what} differs between the processes: {gathered}")


def wait_for_all() -> None:
    """Return when every process has called this."""
    if is_distributed():
        dist.barrier()


def launch(
    command: str, words: Sequence[str], settings: Mapping[str, object], processes: int
) -> str:
    """Run ``wsol command words --set name=value ...`` in processes on this machine.

    A child process starts them, because CUDA must not be touched before a fork. Returns what was
    printed. Raises RuntimeError with its last lines if a process fails.
    """
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    cli = ["-m", "wsol.cli", command, *words, *setting_words(settings)]
    paths = [str(Path(wsol.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does, without its warning
    done = subprocess.run(
        [sys.executable, "-m", *torchrun, *cli],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_end_with_parent,
    )
    if done.returncode:
        own = re.split(r"^[EW]\d{4} .*torch/distributed/", done.stdout, maxsplit=1, flags=re.M)[0]
        last = "\n".join((own.strip() or done.stdout).splitlines()[-20:])  # without torchrun's own
        raise RuntimeError(f"wsol {command} failed in {processes} processes:\n{last}")
    return done.stdout


def _end_with_parent() -> None:
    """Have Linux end torchrun, and so its processes, when a killed notebook leaves it behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def setting_words(settings: Mapping[str, object]) -> list[str]:
    """The words ``--set=name=value`` that the command line reads back."""
    return [
        f"--set={name}={json.dumps(value, ensure_ascii=False)}" for name, value in settings.items()
    ]
