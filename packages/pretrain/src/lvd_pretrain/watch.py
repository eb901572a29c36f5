"""What a run looks like from inside: targets, prototypes, features, waiting, memory; and the alarms that stop it.

Everything stays on the device until a logging step, but for one flag per step: whether the gradients are finite. The
host reads it a step later, or waits for it where something is about to be logged or saved: until then a spoiled step
lives in memory alone, and the run that meets one ends, so there is nothing to undo.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.ranks import LateFlag, all_reduce_max, all_reduce_sum, world_size
from lvd_pretrain.scores import Assignment

Item = TypeVar("Item")
AT_LN_K = 0.999  # share of ln K above which the DINO term counts as standing at it
NEAR_ONE = 1.02  # effective rank below which all cls tokens are one: 256 unit vectors within 0.1 degrees of one another
MOST_FEATURES = 512  # cls tokens the rank is taken of


class Watch:
    """Observer of one rank's training steps.

    Args:
        config: of the run.
        device: where the run computes.
    """

    def __init__(self, config: PretrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        prototypes = config.dino_head.prototypes
        self.used = torch.zeros(prototypes, device=device)  # 1 where a prototype won a target since the last report
        self.at_ln_k = torch.zeros((), device=device)  # steps in a row
        self.low_rank_since: int | None = None
        self.broken: LateFlag[tuple[dict[str, Tensor], int]] = LateFlag()  # notes: the losses of a step, and the step
        self.entropies = torch.empty(0)  # of the last step's targets
        self.cls = torch.empty(0)
        self.waited, self.since = 0.0, time.monotonic()

    @torch.no_grad()
    def observe(self, targets: Tensor | Assignment, cls: Tensor) -> None:
        """Called by the method each step, while the teacher's weights are those of the targets.

        Args:
            targets: teacher assignments of the global crops' cls [2, B, K].
            cls: the student's cls tokens of the global crops [2B, D].
        """
        self.cls = cls.detach()
        if isinstance(targets, Assignment):
            winners, self.entropies = targets.winners_and_entropies()  # [2, B] each
        else:
            winners, self.entropies = targets.argmax(-1), -torch.xlogy(targets, targets).sum(-1)
        self.used.index_fill_(0, winners.flatten(), 1)  # `used[...] = 1` would copy a constant to the GPU

    def timed(self, batches: Iterable[Item]) -> Iterator[Item]:
        """The same batches; the time spent waiting for them is counted."""
        iterator = iter(batches)
        while True:
            began = time.monotonic()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.waited += time.monotonic() - began
            yield batch

    def check(self, losses: dict[str, Tensor], norms: dict[str, Tensor], step: int, *, logging: bool) -> None:
        """Stop all ranks, at the latest a step after the weights were spoiled, or when the run is as good as dead.

        Args:
            losses: this rank's weighted terms.
            norms: gradient norms by module, the same on all ranks.
            step: counted from 0.
            logging: whether to wait for this step's flag, and to look at the collapse alarms too.

        Raises:
            FloatingPointError: gradients are not finite, or features or targets have collapsed.
        """
        finite = torch.stack([norm.detach() for norm in norms.values()]).isfinite().all()
        self._count(losses, step)
        note = {name: value.detach() for name, value in losses.items()}, step
        self._stop_if_broken(self.broken.put(~finite, note))
        if logging:
            self.settle()
            if self.config.monitor.patience:
                self._alarm(step)

    def settle(self) -> None:
        """Wait for the last step's flag: comes before anything is made of the weights.

        Raises:
            FloatingPointError: its gradients were not finite.
        """
        self._stop_if_broken(self.broken.settle())

    def _stop_if_broken(self, note: tuple[dict[str, Tensor], int] | None) -> None:
        if note is not None:
            raise FloatingPointError(self._blame(*note))

    def _count(self, losses: dict[str, Tensor], step: int) -> None:
        """Steps in a row, after the warm-up, in which the DINO term stands at the entropy of knowing nothing."""
        if step < self.config.optim.warmup:
            return
        value = losses["dino_global"].detach() + losses["dino_local"].detach()
        bar = AT_LN_K * self.config.loss.dino * math.log(self.config.dino_head.prototypes)
        self.at_ln_k = torch.where(value >= bar, self.at_ln_k + 1, 0.0)

    def _blame(self, losses: dict[str, Tensor], step: int) -> str:
        """Which terms are not finite on which ranks."""
        values = torch.stack([value.detach().float() for value in losses.values()])
        everyone = [torch.empty_like(values) for _ in range(world_size())]
        if world_size() > 1:
            dist.all_gather(everyone, values)
        else:
            everyone = [values]
        blamed = [
            f"{name} {row[i]:.4g} on rank {rank}"
            for rank, row in enumerate(row.tolist() for row in everyone)
            for i, name in enumerate(losses)
            if not math.isfinite(row[i])
        ]
        terms = ", ".join(blamed) or "every term is finite: the backward pass overflowed"
        return f"step {step}: gradients are not finite ({terms}); the last checkpoint is intact"

    def _alarm(self, step: int) -> None:
        """Raise on every rank where all ranks have been collapsed for `monitor.patience` steps."""
        patience = self.config.monitor.patience
        stuck, rank = all_reduce_max(torch.stack([-self.at_ln_k, effective_rank(self.cls)])).tolist()  # least and most
        low = rank < NEAR_ONE and step >= self.config.optim.warmup
        self.low_rank_since = (step if self.low_rank_since is None else self.low_rank_since) if low else None
        ln_k = math.log(self.config.dino_head.prototypes)
        if -stuck >= patience:
            what = f"dino has stood at ln K = {ln_k:.2f} for {int(-stuck)} steps on every rank"
        elif self.low_rank_since is not None and step - self.low_rank_since >= patience:
            what = f"the cls tokens of a batch have been one point since step {self.low_rank_since} on every rank"
        else:
            return
        raise FloatingPointError(
            f"step {step}: collapse, {what}; the last checkpoint is intact: sharpen teacher.temperature or lower "
            "optim.base_lr (monitor.patience=0 turns this alarm off)"
        )

    @torch.no_grad()
    def report(self) -> dict[str, float]:
        """Figures since the last report; every rank calls this."""
        means = torch.stack([self.entropies.mean(), effective_rank(self.cls)])
        entropy, rank = (all_reduce_sum(means) / world_size()).tolist()
        usage = float(all_reduce_max(self.used).mean())
        now = time.monotonic()
        share = self.waited / max(now - self.since, 1e-9)
        self.used.zero_()
        self.waited, self.since = 0.0, now
        return {
            "target_entropy": entropy,  # nats, of the cls targets; ln K is knowing nothing
            "prototype_usage": usage,
            "feature_rank": rank,
            "data_wait": round(share, 4),
            "memory_gib": round(memory(self.device) / 2**30, 3),
        }


def effective_rank(features: Tensor) -> Tensor:
    """exp of the entropy of the normalised singular values (RankMe, arXiv 2210.02885), of unit rows; 1 is a point.

    Args:
        features: [B, D], up to MOST_FEATURES rows are used.
    """
    rows = F.normalize(features[:MOST_FEATURES].double(), dim=-1)
    gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    shares = values / values.sum().clamp_min(1e-12)
    return torch.exp(-torch.xlogy(shares, shares).sum()).float()


def memory(device: torch.device) -> int:
    """Peak bytes: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
