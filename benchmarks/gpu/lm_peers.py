"""What `lm.py` compares with: Hugging Face's Trainer on its own model, and a plain decoder."""

from __future__ import annotations

import inspect
import tempfile
import time

import torch

from loopline.nets.lm_files import config_of


def plain_decoder(work):
    """The GPT-2 shape as anybody would write it, with all scores of a step at once."""
    import decoder

    shape = work.shape
    decoder.SHAPES["given"] = (
        shape.layers, shape.width, shape.heads, shape.context, shape.vocabulary
    )  # fmt: skip
    return decoder.Decoder("given")


def huggingface(work, device):
    """Times of blocks of steps of the Trainer with its own model, compiled, BF16 autocast."""
    from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

    facts = config_of(work.shape)
    facts.pop("rope_theta", None)  # stands in rope_parameters
    config = AutoConfig.for_model(facts.pop("model_type"), **facts)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float()
    rows = _Rows(work)
    wanted = {
        "max_steps": work.warm + work.steps,
        "per_device_train_batch_size": work.batch,
        "learning_rate": 1e-4,
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "bf16": work.precision == "bf16",
        "torch_compile": work.compiled,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_num_workers": 0 if device.type == "cpu" else 2,
        "use_cpu": device.type == "cpu",
    }
    known = inspect.signature(TrainingArguments).parameters
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, **{name: value for name, value in wanted.items() if name in known}
        )
        clock = _clock(work, device)
        engine = Trainer(model=model, args=settings, train_dataset=rows, callbacks=[clock])
        out = engine.train()
    import transformers

    return {
        "times": clock.times,
        "loss": out.training_loss,
        "seconds_to_first_step": clock.first,
        "transformers": transformers.__version__,
        "trainer_settings": {name: wanted[name] for name in wanted if name in known},
        "attention": model.config._attn_implementation,
    }


class _Rows(torch.utils.data.Dataset):
    """Random rows; the Trainer's model shifts the labels itself."""

    def __init__(self, work):
        draw = torch.Generator().manual_seed(0)
        size = (4 * work.batch, work.length)
        self.values = torch.randint(0, work.shape.vocabulary, size, generator=draw)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, place):
        return {"input_ids": self.values[place], "labels": self.values[place]}


def _clock(work, device):
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """Reads the clock at the ends of blocks of steps, as the engine's does."""

        def __init__(self):
            self.times, self.mark, self.first, self.began = [], 0.0, None, time.time()

        def on_step_end(self, args, state, control, **others):
            if self.first is None:
                self._wait()
                self.first = time.time() - self.began
            done = state.global_step - work.warm
            if done >= 0 and done % work.block == 0:
                self._wait()
                now = time.perf_counter()
                if done:
                    self.times.append((now - self.mark) / work.block)
                self.mark = now

        @staticmethod
        def _wait():
            if device.type == "cuda":
                torch.cuda.synchronize(device)

    return Clock()
