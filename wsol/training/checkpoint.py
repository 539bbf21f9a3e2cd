"""Checkpoints, from which a training that was killed resumes.

All processes of a training have the same state (gradients are averaged, losses are means over all
of them, batch statistics are those of process 0), so process 0 alone keeps it and all read it.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from wsol.backbones.parts import read_tensors
from wsol.datasets.files import written_whole


@dataclass
class Progress:
    """State of a training between two steps, beside weights and optimizer."""

    epoch: int = 0  # the one that is running, from 0
    step: int = 0  # the next one in it
    sums: dict[str, float] = field(default_factory=dict)  # losses times images, of this epoch
    history: list[dict[str, float]] = field(default_factory=list)  # finished epochs
    seconds: float = 0.0  # that the steps so far took, over all sessions
    begun: float = field(default_factory=time.perf_counter)  # of this session

    def __post_init__(self) -> None:
        self.before = self.seconds

    def elapsed(self) -> float:
        """Seconds of all sessions until now."""
        return self.before + time.perf_counter() - self.begun

    def as_state(self) -> dict[str, object]:
        """The fields that are saved."""
        return {
            name: getattr(self, name) for name in ("epoch", "step", "sums", "history", "seconds")
        }


class Checkpoint:
    """The state of one training on disk; without a path nothing is kept."""

    def __init__(
        self,
        path: Path | None,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        every_seconds: float,
        keeps: bool,
    ) -> None:
        """Keep a training's state at `path`; only the process with `keeps` writes it."""
        self.path, self.network, self.optimizer = path, network, optimizer
        self.every_seconds, self.keeps = every_seconds, keeps
        self.last = time.monotonic()

    def restore(self) -> Progress:
        """Load the last state, if there is one, and return how far it is.

        Raises ValueError naming the file if it is damaged or of another training.
        """
        if self.path is None or not self.path.exists():
            return Progress()
        try:
            state = read_tensors(self.path)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            return Progress(**state["progress"])
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = "is damaged or of another training: delete it to begin anew"
            raise ValueError(f"{self.path} {reason}") from error

    def due(self) -> bool:
        """Whether `every_seconds` have passed since the last save."""
        kept = self.path is not None and self.keeps
        return kept and time.monotonic() - self.last >= self.every_seconds

    def save(self, progress: Progress) -> None:
        """Write the state."""
        if self.path is None or not self.keeps:
            return
        state = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        with written_whole(self.path) as path:  # a kill leaves the old state or the new one
            try:
                torch.save(state | {"progress": progress.as_state()}, path)
            except RuntimeError as error:  # of a full disk, which is no OSError there
                raise OSError(f"{self.path} cannot be written: {error}") from error
        self.last = time.monotonic()

    def remove(self) -> None:
        """Remove the state, once the run is written."""
        if self.path is not None and self.keeps:
            self.path.unlink(missing_ok=True)
