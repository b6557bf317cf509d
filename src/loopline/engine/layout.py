"""How a model lies on processes: alone, as copies (DDP), or in shards (FSDP2).

The loop asks a layout for sums across ranks and nothing else; adding a layout adds a file. Every
layout gives the mean of the ranks' gradients, as torch's do, and the loop undoes the division: what
it steps with is the sum over the global batch divided by its weight.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Literal, NoReturn

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.checkpoint import checkpoint

from loopline.engine.blocks import blocks_of, compile_whole, parts_to_compile
from loopline.engine.precision import Precision
from loopline.engine.watch import Watch, report_errors
from loopline.errors import EnvironmentProblem, SettingsError

Kind = Literal["auto", "single", "ddp", "fsdp"]
TIMEOUT = timedelta(minutes=10)


@dataclass
class Layout:
    """The processes of a run, seen from one of them.

    Args:
        kind: how the model lies on them.
        rank: this process, from 0.
        world: number of processes.
        device: where this process computes.
    """

    kind: Literal["single", "ddp", "fsdp"]
    rank: int
    world: int
    device: torch.device
    watch: Watch | None = field(default=None, repr=False)

    @staticmethod
    def open(kind: Kind = "auto", device: str | None = None) -> Layout:
        """Join the processes that were started together (by `launch` or torchrun), or stay alone.

        Raises:
            SettingsError: a layout of many processes in one process.
            EnvironmentProblem: the device is not there.
        """
        world = int(os.environ.get("WORLD_SIZE", "1"))
        rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
        place = _device(device, local)
        chosen = kind if kind != "auto" else ("ddp" if world > 1 else "single")
        if chosen == "single" and world > 1:
            raise SettingsError(
                [f"`parallel: single` runs in one process, but {world} were started."]
            )
        if chosen != "single" and not dist.is_initialized():
            if "WORLD_SIZE" not in os.environ:
                raise SettingsError(
                    [f"`parallel: {chosen}` needs processes: set `processes`, or use torchrun."]
                )
            back_end = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
            dist.init_process_group(back_end, timeout=TIMEOUT)
        watch = None
        if chosen != "single" and world > 1:
            report_errors()
            watch = Watch.join(rank, world)
        return Layout(chosen, rank, world, place, watch)

    @property
    def leads(self) -> bool:
        """Whether this process writes and tells."""
        return self.rank == 0

    def place(
        self,
        model: nn.Module,
        precision: Precision,
        *,
        compiled: bool | str = False,
        recompute: bool = False,
    ) -> Any:
        """Move a model to its device and lay it out; gives what the loop calls.

        Order: weights' type, recomputation, compilation part by part, sharding.

        Raises:
            SettingsError: recomputation of a model without repeated layers, or one graph of all of
                them for several processes.
        """
        model.to(device=self.device, dtype=precision.weights)
        if precision.weights != torch.float32:
            hook = partial(_cast, precision.weights)
            model.register_forward_pre_hook(hook, with_kwargs=True)
        blocks = list(blocks_of(model))
        if recompute and not blocks:
            raise SettingsError(
                ["`recompute` works on repeated layers, and this model has none; leave it out."]
            )
        if recompute:
            for block in blocks:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if compiled == "whole" and self.kind != "single":
            raise SettingsError(
                [
                    "`compile: whole` is for one process: with several, gradients travel while "
                    "earlier blocks are computed, which one graph prevents. Use `compile: true`."
                ]
            )
        if compiled == "whole":
            compile_whole(model)
        elif compiled:
            for part in parts_to_compile(model):
                part.compile()
        if self.kind == "ddp":
            ids = [self.device.index] if self.device.type == "cuda" else None
            return nn.parallel.DistributedDataParallel(
                model, device_ids=ids, gradient_as_bucket_view=True
            )
        if self.kind == "fsdp":
            from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

            policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
            if precision.name in ("bf16", "fp16"):
                policy = MixedPrecisionPolicy(
                    param_dtype=precision.compute, reduce_dtype=torch.float32
                )
            kept = [getattr(value, "decays", True) for value in model.parameters()]
            for block in blocks:
                fully_shard(block, mp_policy=policy)
            fully_shard(model, mp_policy=policy)
            for value, decays in zip(model.parameters(), kept, strict=True):
                value.decays = decays  # type: ignore[attr-defined]  # shards are new parameters
            return model
        return model

    @contextmanager
    def gathering(self, model: Any, *, last: bool) -> Iterator[None]:
        """Around one micro-batch: ranks exchange gradients at the last one only."""
        if self.kind == "ddp" and not last:
            with model.no_sync():
                yield
            return
        if self.kind == "fsdp":
            model.set_requires_gradient_sync(last)
        yield

    def seed(self, value: int) -> None:
        """Let what is drawn from now on, on this device, follow from a number."""
        torch.default_generator.manual_seed(value)
        if self.device.type == "cuda":  # torch.manual_seed would queue calls for absent devices
            torch.cuda.manual_seed(value)

    def settle(self, model: nn.Module) -> None:
        """After a forward pass without a backward one: let each rank hold its shards again."""
        if self.kind == "fsdp":
            from torch.distributed.fsdp import FSDPModule

            for part in model.modules():
                if isinstance(part, FSDPModule):
                    part.reshard()

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank the leading one's buffers (running means, say), as DDP does by itself."""
        if self.kind == "fsdp" and self.world > 1:
            for value in model.buffers():
                dist.broadcast(value, 0)

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all ranks, in place, without waiting on the host."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def all_true(self, value: torch.Tensor) -> torch.Tensor:
        """Whether a flag is true on every rank."""
        if self.world == 1:
            return value
        number = value.to(torch.int32)
        dist.all_reduce(number, op=dist.ReduceOp.MIN)
        return number.bool()

    def agree(self, word: int) -> int:
        """The largest word of all ranks: how they decide together to stop or to save."""
        if self.world == 1:
            return word
        number = torch.tensor(word, device=self.device)
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return int(number)

    def gather(self, value: Any) -> list[Any]:
        """A plain value of every rank, on every rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def beat(self, phase: str, step: int | None = None) -> None:
        """Tell the watch that this process has come to a phase of a step; every rank alike."""
        if self.watch is not None:
            self.watch.beat(phase, step)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While inside, a process that dies or stands still is named and the run ends."""
        if self.watch is None:
            yield
            return
        with self.watch:
            yield

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the other processes."""
        if self.watch is not None:
            self.watch.close()
        if dist.is_initialized():
            dist.destroy_process_group()


def leave() -> NoReturn:
    """End a process whose work is done and told.

    At once, because threads of gloo that are still there when torch is taken down abort the process
    now and then, which would look as if the work had failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def unwrapped(model: Any) -> nn.Module:
    """The module inside a DDP wrapper, or the module itself."""
    inner: nn.Module = model.module if hasattr(model, "module") and _is_wrapper(model) else model
    return inner


def _cast(kind: torch.dtype, model: nn.Module, values: Any, named: Any) -> tuple[Any, Any]:
    """Give the model its inputs in the type of its weights."""
    del model

    def cast(value: Any) -> Any:
        real = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.to(kind) if real else value

    return tuple(map(cast, values)), {name: cast(value) for name, value in named.items()}


def _is_wrapper(model: Any) -> bool:
    return isinstance(model, nn.parallel.DistributedDataParallel)


def _device(name: str | None, local: int) -> torch.device:
    wanted = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda"):
        if not torch.cuda.is_available():
            raise EnvironmentProblem(
                "`device: cuda` was asked for, but torch sees no GPU here. Leave it out to use "
                "the CPU."
            )
        place = torch.device("cuda", local if wanted == "cuda" else int(wanted.split(":")[1]))
        torch.cuda.set_device(place)
        return place
    return torch.device(wanted)
