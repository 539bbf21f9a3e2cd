"""Several processes, one network: who I am, where I compute, and means over all of us.

`torchrun` starts the processes and says in the environment who each of them is; without it there
is one. Nothing else in the library asks for ranks by other means.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

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
    """Let float32 be float32 on a GPU, unless it is to be TF32 ("tf32")."""
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
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        # gloo's threads may still hold Python objects, for which they need the interpreter lock;
        # its destructor waits for them and holds it.
        time.sleep(0.2)
        dist.destroy_process_group()


def together() -> bool:
    """Whether several processes have joined."""
    return dist.is_initialized() and dist.get_world_size() > 1


def agree(values: list[int], what: str) -> None:
    """Raise RuntimeError unless these numbers are the same in every process."""
    if not together():
        return
    found: list[list[int] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(found, values)
    if any(other != values for other in found):
        raise RuntimeError(f"{what} differs between the processes: {found}")


def wait_for_all() -> None:
    """Return when every process has come here."""
    if together():
        dist.barrier()


class _SumOverAll(torch.autograd.Function):
    """Sum of a tensor over all processes; its gradient is summed in the same way."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def global_mean(mean: Tensor, count: int) -> Tensor:
    """Mean over the values of all processes, of this one's mean over its `count`; differentiable.

    Every loss is such a mean, so that it has the denominator of the whole batch and not of the
    part that one process holds. Gradients are those of the mean once DDP has averaged them. A
    process without any value hands over the mean of nothing, which is NaN.
    """
    if not together():
        return mean
    # A process without values takes part too, also in the gradient; any other NaN is a fault.
    total = mean * count if count else torch.nan_to_num(mean)
    total = _SumOverAll.apply(torch.stack([total, total.new_tensor(float(count))]))
    return total[0] / total[1]


def mean_over_all(values: Tensor) -> Tensor:
    """Mean over the values of all processes, see :func:`global_mean`."""
    return global_mean(values.mean(), values.numel())
