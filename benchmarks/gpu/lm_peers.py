"""What `lm.py` compares with: Hugging Face's Trainer, Lightning, and a plain decoder.

All of them read the rows that Loopline's engine reads, as many as there are steps, so that nobody
begins a pass over the data while the clock runs.
"""

from __future__ import annotations

import inspect
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version

import torch
from torch.utils.data import DataLoader

from loopline.nets.lm_files import config_of

AS_COMMON = {
    "report_to": "none",
    "save_strategy": "no",
    "logging_strategy": "no",
    "disable_tqdm": True,
}
"""What is no part of training: no files, no records, no progress bar."""
BEST = {
    **AS_COMMON,
    "optim": "adamw_torch_fused",
    "logging_nan_inf_filter": False,  # else each step asks whether its loss is a number
    "dataloader_num_workers": 2,
    "dataloader_persistent_workers": True,
    "dataloader_pin_memory": True,
    "dataloader_prefetch_factor": 4,
    "accelerator_config": {"non_blocking": True},
    "average_tokens_across_devices": False,
    "include_num_input_tokens_seen": "no",
    "tf32": True,
}
BEFORE = {**AS_COMMON, "optim": "adamw_torch_fused", "dataloader_num_workers": 2}
"""As this benchmark had it at first: passes of four steps, each with new worker processes."""


@dataclass(frozen=True)
class Way:
    """How the Trainer is set up; Liger's kernels cannot be compiled with this torch."""

    settings: dict = field(default_factory=dict)
    pass_steps: int | None = None
    compiled: bool = True


TRAINERS = {
    "trainer": Way(AS_COMMON),
    "trainer_best": Way(BEST),
    "trainer_autotuned": Way({**BEST, "torch_compile_mode": "max-autotune-no-cudagraphs"}),
    "trainer_liger": Way({**BEST, "use_liger_kernel": True}, compiled=False),  # Llama only
    "trainer_passes_of_4_steps": Way(BEFORE, 4),
}


def plain_decoder(work):
    """The GPT-2 shape as anybody would write it, with all scores of a step at once."""
    import decoder

    shape = work.shape
    decoder.SHAPES["given"] = (
        shape.layers, shape.width, shape.heads, shape.context, shape.vocabulary
    )  # fmt: skip
    return decoder.Decoder("given")


def their_model(work):
    """The shape as transformers has it, with attention by torch's own function, in 32 bits."""
    from transformers import AutoConfig, AutoModelForCausalLM

    facts = config_of(work.shape)
    facts.pop("rope_theta", None)  # stands in rope_parameters
    config = AutoConfig.for_model(facts.pop("model_type"), **facts)
    config.use_cache = False
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float()


def huggingface(work, device, name, layout=None):
    """Times of blocks of steps of the Trainer with its own model, compiled, BF16 autocast.

    `layout` is what it is told of several cards.
    """
    from transformers import Trainer, TrainingArguments

    way, on_card = TRAINERS[name], device.type == "cuda"
    torch.manual_seed(0)
    model = their_model(work)
    given = {
        **way.settings,
        **(layout or {}),
        "max_steps": work.warm + work.steps,
        "per_device_train_batch_size": work.batch,
        "learning_rate": 1e-4,
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
        "lr_scheduler_type": "constant",
        "bf16": work.precision == "bf16",
        "torch_compile": work.compiled and way.compiled,
        "use_cpu": not on_card,
    }
    if not on_card:
        given.pop("tf32", None)
    if not work.compiled:
        given.pop("torch_compile_mode", None)
    unknown = given.keys() - inspect.signature(TrainingArguments).parameters.keys()
    if unknown:
        raise SystemExit(f"This transformers does not know {sorted(unknown)}.")
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(output_dir=folder, **given)
        clock = trainer_clock(work, device)
        rows = Rows(work, way.pass_steps)
        engine = Trainer(model=model, args=settings, train_dataset=rows, callbacks=[clock])
        out = engine.train()
    return {
        **clock.clock.told(),
        "loss": out.training_loss,
        "versions": {name: version(name) for name in ("transformers", "accelerate")},
        "settings": given,
        "steps_of_a_pass": way.pass_steps or work.warm + work.steps,
        "attention": model.config._attn_implementation,
    }


def lightning(work, device, name):
    """Times of blocks of steps of Lightning, compiled, BF16 autocast, nothing logged or kept.

    Of the same model as the Trainer (`lightning`), of the plain decoder (`lightning_plain`), or of
    Loopline's decoder compiled as the engine compiles it (`lightning_decoder`).
    """
    import lightning as lib

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    module = _module(lib, work, name)
    clock = _lightning_clock(lib, work, device)
    given = {
        "max_steps": work.warm + work.steps,
        "precision": "bf16-mixed" if work.precision == "bf16" else "32-true",
        "accelerator": "gpu" if device.type == "cuda" else "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    told = {"num_workers": 2, "persistent_workers": True, "prefetch_factor": 4,
            "pin_memory": device.type == "cuda"}  # fmt: skip
    rows = DataLoader(Rows(work, shifted=name != "lightning"), work.batch, shuffle=True,
                      drop_last=True, **told)  # fmt: skip
    lib.Trainer(**given, callbacks=[clock]).fit(module, rows)
    return {
        **clock.clock.told(),
        "loss": float(module.last),
        "versions": {name: version(name) for name in ("lightning", "transformers")},
        "settings": {**given, "loader": told},
    }


def _module(lib, work, name):
    class Module(lib.LightningModule):
        """The loss of the model's own making, fused AdamW."""

        def __init__(self):
            super().__init__()
            makers = {"lightning": their_model, "lightning_plain": plain_decoder}
            self.model = makers.get(name, type(work).model)(work)
            whole = work.compiled and name in makers
            self.called = (torch.compile(self.model) if whole else self.model,)
            for part in self.model.compiled_parts() if work.compiled and not whole else ():
                part.compile()
            self.last = None

        def training_step(self, batch, place):
            """The mean loss of a token."""
            (model,) = self.called
            if name == "lightning":
                loss = model(**batch).loss
            else:
                loss = model(batch["tokens"], batch["targets"]) / batch["targets"].numel()
            self.last = loss.detach()
            return loss

        def configure_gradient_clipping(
            self, optimizer, gradient_clip_val, gradient_clip_algorithm
        ):
            """By hand: Lightning itself refuses to clip for a fused optimizer under autocast."""
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)

        def configure_optimizers(self):
            """Weight decay on matrices only, as everybody here has it."""
            decayed = [value for value in self.model.parameters() if value.ndim >= 2]
            others = [value for value in self.model.parameters() if value.ndim < 2]
            groups = [{"params": decayed, "weight_decay": 0.1},
                      {"params": others, "weight_decay": 0.0}]  # fmt: skip
            return torch.optim.AdamW(groups, lr=1e-4, fused=True)

    return Module()


class Rows(torch.utils.data.Dataset):
    """The engine's rows; the models of transformers shift the labels themselves."""

    def __init__(self, work, pass_steps=None, *, shifted=False):
        values = torch.from_numpy(work.texts().tokens.astype("int64")).view(-1, work.length + 1)
        self.values = values[: work.batch * pass_steps] if pass_steps else values
        self.shifted = shifted

    def __len__(self):
        return len(self.values)

    def __getitem__(self, place):
        row = self.values[place]
        if self.shifted:
            return {"tokens": row[:-1], "targets": row[1:]}
        return {"input_ids": row[:-1], "labels": row[:-1]}


class Clock:
    """Reads the clock at the ends of blocks of steps, as the engine's does."""

    def __init__(self, work, device):
        self.work, self.device = work, device
        self.times, self.mark, self.first, self.began = [], 0.0, None, time.time()

    def step(self, steps):
        """So many steps are done."""
        if self.first is None:
            self._wait()
            self.first = time.time() - self.began
        done = steps - self.work.warm
        if done >= 0 and done % self.work.block == 0:
            self._wait()
            now = time.perf_counter()
            if done:
                self.times.append((now - self.mark) / self.work.block)
            self.mark = now

    def told(self):
        """What was measured."""
        return {"times": self.times, "seconds_to_first_step": self.first}

    def _wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def trainer_clock(work, device):
    """A callback of the Trainer whose `clock` has the times."""
    from transformers import TrainerCallback

    class Call(TrainerCallback):
        """Tells the clock of each step."""

        clock = Clock(work, device)

        def on_step_end(self, args, state, control, **others):
            self.clock.step(state.global_step)

    return Call()


def _lightning_clock(lib, work, device):
    class Call(lib.Callback):
        """Tells the clock of each step."""

        clock = Clock(work, device)

        def on_train_batch_end(self, trainer, *others):
            self.clock.step(trainer.global_step)

    return Call()
