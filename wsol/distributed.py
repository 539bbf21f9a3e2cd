"""Several processes, one network: who I am, where I compute, and means over all of us.

`torchrun` starts the processes and says in the environment who each of them is; without it there
is one. Nothing else in the library asks for ranks by other means.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.nn.functional import all_reduce

PATIENCE = timedelta(hours=6)  # one process may decode a whole data set while the others wait


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def choose_device(name: str) -> torch.device:
    """The device of this process: with "auto" or "cuda" the GPU of its local rank.

    Raises ValueError if the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {name!r}, but this PyTorch sees no CUDA device")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device is 'mps', but this PyTorch sees none")
    if name == "cuda":
        name = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
    return torch.device(name)


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes, if `torchrun` started several, and leave them at the end."""
    if world_size() == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def together() -> bool:
    """Whether several processes have joined."""
    return dist.is_initialized() and dist.get_world_size() > 1


def wait_for_all() -> None:
    """Return when every process has come here."""
    if together():
        dist.barrier()


def global_mean(mean: Tensor, count: int) -> Tensor:
    """Mean over the values of all processes, of this one's mean over its `count`; differentiable.

    Every loss is such a mean, so that it has the denominator of the whole batch and not of the
    part that one process holds. Gradients are those of the mean once DDP has averaged them. A
    process without any value hands over the mean of nothing, which is NaN.
    """
    if not together():
        return mean
    total = torch.nan_to_num(mean) * count  # every process must take part, also in the gradient
    total = all_reduce(torch.stack([total, total.new_tensor(float(count))]))
    return total[0] / total[1]


def mean_over_all(values: Tensor) -> Tensor:
    """Mean over the values of all processes, see :func:`global_mean`."""
    return global_mean(values.mean(), values.numel())
