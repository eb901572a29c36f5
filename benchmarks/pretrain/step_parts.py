"""Which part of a training step the time goes to.

A mark is set wherever the work passes from one part to another: at the borders of attentions, feed-forwards and heads,
forward and backward, and of losses, clipping, optimizer and average. The time from one mark to the next belongs to the
part that was entered last. Marks cost a little and need modules that are not compiled: a pass of its own, for shares.
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn

import lvd_pretrain.method
from lvd_pretrain.heads import ProjectionHead
from lvd_pretrain.method import SelfDistillation
from lvd_pretrain.vit import Block

REST = "norms, residuals, embedding"


class Parts:
    """Marks of one device: CUDA events, or the clock of the host."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.marks: list[tuple[str, Any]] = []
        self.entered = [REST]

    def watch(self, method: SelfDistillation) -> None:
        """Mark the borders of a method's parts from now on."""
        for module in method.modules():
            if isinstance(module, Block):
                self._watch_module(module.attn, "attention")
                self._watch_module(module.mlp, "feed-forward")
            if isinstance(module, ProjectionHead):
                self._watch_module(module.mlp, "heads")
                self._watch_module(module.last_layer, "heads")
        for name in ("dino_loss", "ibot_loss", "koleo_loss"):
            setattr(lvd_pretrain.method, name, self._within("losses", getattr(lvd_pretrain.method, name)))
        object.__setattr__(method, "_assign", self._within("losses", method._assign))

    def base(self, part: str) -> None:
        """What everything outside of watched modules belongs to from here on."""
        self.entered = [part]
        self._mark()

    def shares(self) -> dict[str, float]:
        """Each part's share of the time between the first mark and the last."""
        if self.on_gpu:
            torch.cuda.synchronize()
        spent: dict[str, float] = defaultdict(float)
        for (part, began), (_, ended) in pairwise(self.marks):
            spent[part] += began.elapsed_time(ended) if self.on_gpu else ended - began
        total = sum(spent.values())
        return {part: round(value / total, 4) for part, value in sorted(spent.items(), key=lambda item: -item[1])}

    def _watch_module(self, module: nn.Module, part: str) -> None:
        module.register_forward_pre_hook(lambda *_: self._enter(part))
        module.register_forward_hook(lambda *_: self._leave())
        module.register_full_backward_pre_hook(lambda *_: self._enter_backward(part))
        module.register_full_backward_hook(lambda *_: self._leave())

    def _within(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **keywords: Any) -> Any:
            self._enter(part)
            result = function(*arguments, **keywords)
            self._leave()
            return result

        return timed

    def _enter(self, part: str) -> None:
        self.entered.append(part)
        self._mark()

    def _enter_backward(self, part: str) -> None:
        if part != "heads":  # the backward pass has come down to the backbone: the losses lie behind it
            self.entered[0] = REST
        self._enter(part)

    def _leave(self) -> None:
        self.entered.pop()
        self._mark()

    def _mark(self) -> None:
        if self.on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append((self.entered[-1], event))
        else:
            self.marks.append((self.entered[-1], time.perf_counter()))
