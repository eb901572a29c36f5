"""The whole of pretraining, from first line to last."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from lvd_pretrain.augment import Photometry
from lvd_pretrain.checkpoint import load_checkpoint, newest_checkpoint, prune_checkpoints, read_state, save_checkpoint
from lvd_pretrain.compilation import compile_blocks
from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.data import Batch, build_loader, open_source, read_batches, source_facts
from lvd_pretrain.distillation import build_method
from lvd_pretrain.errors import InputError
from lvd_pretrain.export import export_model
from lvd_pretrain.knn import KnnMonitor
from lvd_pretrain.launch import build_accelerator, prepare, shard_blocks
from lvd_pretrain.method import SelfDistillation, Views
from lvd_pretrain.monitor import Monitor
from lvd_pretrain.optim import build_optimizer, clip_gradients, set_step_values
from lvd_pretrain.pretrained import load_modules, open_pretrained
from lvd_pretrain.publish import clear_leftovers, explain_failed_writes
from lvd_pretrain.ranks import AnyRank, gather_weights
from lvd_pretrain.run_folder import claim_run_folder, lock_run_folder
from lvd_pretrain.schedules import Schedules
from lvd_pretrain.signals import StopRequest
from lvd_pretrain.trackers import flat_settings
from lvd_pretrain.vit import Block
from lvd_pretrain.watch import Watch


def pretrain(config: PretrainConfig) -> Path:
    """Train to `optim.steps`, going on from the newest checkpoint in `out` if there is one.

    Returns:
        The run folder; its `model` is a Model v1 folder.
    """
    # ---- where it runs, what it reads --------------------------------------------------------------------------------
    accelerator = build_accelerator(config)
    world, rank = accelerator.num_processes, accelerator.process_index
    run = Path(config.out)
    checkpoint, done = newest_checkpoint(run / "checkpoints"), 0
    source = open_source(config.data)
    facts = {**source_facts(source, config, world), "global_batch": config.optim.batch_size * world}

    # ---- student, teacher, optimizer: the same initial weights on every rank ----------------------------------------
    torch.manual_seed(config.seed)
    method = build_method(config)
    if config.init_from and checkpoint is None:
        load_modules(method.student, open_pretrained(config.init_from), config.init.heads)
        method.restart_average()
    for module in method.student.modules():
        if isinstance(module, Block):
            module.checkpointing = config.optim.activation_checkpointing
    if config.model.compile:
        compile_blocks(method, accelerator.device)
    shard_blocks(accelerator, method, config.precision)
    model, optimizer = prepare(accelerator, method, build_optimizer(method.student, config.model.dims[1], config.optim))
    schedules = Schedules(config, facts["global_batch"])
    photometry = Photometry(config.augment, accelerator.device)
    watch = Watch(config, accelerator.device)
    method.observe = watch.observe
    knn = KnnMonitor(config) if config.knn.every else None

    # ---- go on where the last run stopped ----------------------------------------------------------------------------
    if checkpoint is not None:
        state = read_state(checkpoint)
        check_same_data(state, facts, checkpoint)
        done = state["step"]
    batches = read_batches(build_loader(source, config, done, rank, world))
    held = lock_run_folder(run) if accelerator.is_main_process else nullcontext()
    if accelerator.is_main_process:
        claim_run_folder(run, config, started=checkpoint is not None)
        for name in ("checkpoints", "models"):
            clear_leftovers(run / name)
    accelerator.wait_for_everyone()
    if checkpoint is not None:
        load_checkpoint(checkpoint, model, optimizer.optimizer)
    accelerator.init_trackers("pretrain", flat_settings(config.to_dict()))

    def save(step: int) -> None:
        watch.settle()
        with explain_failed_writes(run / "checkpoints"):
            teacher = gather_weights(method.average)
            if accelerator.is_main_process:
                export_model(run, step, teacher, config, facts)
            # After the model: a checkpoint says that its step is done.
            save_checkpoint(run / "checkpoints", step, model, optimizer.optimizer, facts)
            if accelerator.is_main_process:
                prune_checkpoints(run / "checkpoints", config.save.keep, config.save.keep_every)
        accelerator.wait_for_everyone()

    progress = Monitor(run / "metrics.jsonl", done, config.optim.steps, accelerator.is_main_process)
    with held, progress as monitor, StopRequest() as stop:
        monitor.say(
            f"{facts['images']} images, {describe(method)}, global batch {facts['global_batch']}, {accelerator.device}"
        )
        if checkpoint is not None:
            monitor.say(f"going on from {checkpoint} ({done} of {config.optim.steps} steps done)")
        model.train()
        skipped, since, logged = 0, time.monotonic(), done
        asked_to_stop = AnyRank(accelerator.device)

        for step, batch in enumerate(watch.timed(batches), start=done):
            logging = (step + 1) % config.log_every == 0 or step + 1 == config.optim.steps
            # ---- forward: named losses -------------------------------------------------------------------------------
            values = schedules(step)
            set_step_values(optimizer, values)
            torch.manual_seed(step_seed(config.seed, step, rank))  # for stochastic depth: no generator state to save
            views = views_of(batch.to(accelerator.device), photometry)
            with accelerator.autocast():
                losses = model(views, values.temperature)
            loss = torch.stack(list(losses.values())).sum()

            # ---- backward, clip, step, EMA ---------------------------------------------------------------------------
            accelerator.backward(loss)
            norms = clip_gradients(method.student, config.optim.clip)
            watch.check(losses, norms, step, logging=logging)
            optimizer.step()
            method.update_teacher(values.momentum)
            optimizer.zero_grad()  # here, so that the next step's activations find the room free

            # ---- log and save ----------------------------------------------------------------------------------------
            skipped += batch.skipped
            monitor.advance(step + 1)
            if logging:
                rate = (step + 1 - logged) * facts["global_batch"] / (time.monotonic() - since)
                line = metrics(accelerator, losses, norms, values, skipped, rate) | watch.report()
                if knn is not None and (step + 1) % config.knn.every == 0:
                    weights = gather_weights(method.average)
                    if weights["backbone"]:  # on the first rank only
                        line["knn_top1"] = knn.top1(weights["backbone"], accelerator.device)
                monitor.log(step + 1, line)
                accelerator.log(line, step=step + 1)
                skipped, since, logged = 0, time.monotonic(), step + 1
            stopping = asked_to_stop(bool(stop.name))
            if (step + 1) % config.save.every == 0 or step + 1 == config.optim.steps or stopping:
                began = time.monotonic()
                save(step + 1)
                since += time.monotonic() - began
            done = step + 1
            if stopping:
                break

        if done < config.optim.steps:
            monitor.say(f"stopped by {stop.name or 'another rank'}: step {done} is saved, the same command goes on")
        else:
            monitor.say(f"done: {done} steps, model in {run / 'model'}")
    accelerator.end_training()
    return run


def views_of(batch: Batch, photometry: Photometry) -> Views:
    """Colour, blur and normalise a batch on its device."""
    return Views(
        global_crops=photometry(batch.global_crops, batch.global_photometry),
        local_crops=photometry(batch.local_crops, batch.local_photometry),
        masks=batch.masks,
        masked=batch.masked,
        masked_weights=batch.masked_weights,
    )


def step_seed(seed: int, step: int, rank: int) -> int:
    """A generator seed of one rank's step."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


def check_same_data(state: dict[str, Any], facts: dict[str, Any], checkpoint: Path) -> None:
    """A run goes on only with the data and the global batch it began with."""
    agreed = {"dataset": "images", "global_batch": "global batch", "readers": "readers of a stream (ranks, workers)"}
    for name, what in agreed.items():
        if state.get(name) != facts.get(name):
            raise InputError(
                f"{checkpoint} was made with other {what} ({state.get(name)}, now {facts.get(name)}); "
                "choose another out= to start afresh"
            )


def metrics(
    accelerator: Accelerator,
    losses: dict[str, torch.Tensor],
    norms: dict[str, torch.Tensor],
    values: Any,
    skipped: int,
    rate: float,
) -> dict[str, float]:
    """One line for metrics.jsonl; losses are means over ranks."""
    local = [*(value.detach() for value in losses.values()), torch.tensor(float(skipped), device=accelerator.device)]
    *means, unreadable = accelerator.reduce(torch.stack(local), reduction="mean").tolist()
    named = dict(zip(losses, means, strict=True))
    return {
        "loss": sum(means),
        **named,
        **{f"gradient_norm/{name}": float(norm) for name, norm in norms.items()},
        "lr": values.lr,
        "weight_decay": values.weight_decay,
        "momentum": values.momentum,
        "temperature": values.temperature,
        "unreadable_images": round(unreadable * accelerator.num_processes),  # since the line before
        "images_per_second": round(rate, 1),
    }


def describe(method: SelfDistillation) -> str:
    """Size of the backbone in words."""
    backbone = method.student["backbone"]
    width, depth, _ = method.config.model.dims
    millions = sum(parameter.numel() for parameter in backbone.parameters()) / 1e6
    return f"ViT width {width} depth {depth} patch {method.config.model.patch_size} ({millions:.1f} M parameters)"
