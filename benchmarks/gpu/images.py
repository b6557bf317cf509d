"""ViT-B/16 and ResNet-50 at 224 points from JPEG files: Loopline against a bare compiled loop.

    PYTHONPATH=src python benchmarks/gpu/images.py --only vit --out $OUT/vit.json
    PYTHONPATH=src python benchmarks/gpu/images.py --only resnet --out $OUT/resnet.json
    PYTHONPATH=src python benchmarks/gpu/images.py --only feed --out $OUT/feed.json
    PYTHONPATH=src python benchmarks/gpu/images.py --only vit --processes 2 --out $OUT/two.json
    PYTHONPATH=src python benchmarks/gpu/images.py --tiny --out tiny.json    # a processor, a minute

Pictures are drawn here and packed as JPEG (quality 90, about 256 points a side) before the clock
runs. Cases of `vit` and `resnet`:

- bare: a loop by hand over random pictures that are on the card already, model compiled whole, BF16
  autocast, fused AdamW, clipping: what the card can do;
- engine_card: the engine, pictures decoded once and held in memory as 8 bits (what a line does with
  tables of up to 1 GiB of pixels);
- engine_card_whole: the same, the model compiled as one graph and not block by block;
- engine_files: the engine from JPEG files, decoded anew each time by threads with Pillow;
- engine_files_augmented: the same with turns, shifts, light and contrast, computed on the card;
- engine_nvjpeg: files decoded on the card by nvJPEG, where torchvision is installed;
- trainer (`vit`): Hugging Face's Trainer on tensors, BF16, compiled.

`feed` says what decoding alone gives with 1, 2, 4, 8 and 16 threads. Beside each speed stands the
share of the time that the engine waited for its batches. With `--processes 2` the script starts
itself on two cards and runs bare and engine under DDP; speeds are those of one card.

Norms over the batch keep their statistics in the engine (a row's gradient must not depend on its
neighbours), and update them in the bare loop. Needs torch 2.11 or later, transformers, Pillow,
numpy, safetensors, blake3 and polars. After `--limit` seconds no further case begins.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch
from lm import Report
from lm_cases import Clock, free, wait
from torch import nn
from torch.nn import functional

from loopline.data.pixels import pixels
from loopline.engine.layout import Layout
from loopline.engine.loop import train
from loopline.engine.meter import peak_bytes
from loopline.engine.optimizer import OptimizerSettings
from loopline.engine.precision import Precision
from loopline.engine.run import prepare
from loopline.engine.settings import TrainSettings
from loopline.engine.tools.launch import launch
from loopline.models.image_encoder import ImageEncoder
from loopline.models.pretrained_images import IMAGENET_DEVIATION, IMAGENET_MEAN
from loopline.nets.examples import Examples, Labelled
from loopline.nets.image import ImageNetwork, PretrainedBody

CLASSES = 1_000


def files(num, side, seed=0):
    """JPEG files of smooth random pictures, a little larger than they are read."""
    from PIL import Image

    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 255, (64, 16, 16, 3), dtype=np.uint8)
    made = []
    for number in range(min(num, 512)):
        image = Image.fromarray(coarse[number % 64]).resize((side, side), Image.Resampling.BICUBIC)
        noise = draw.integers(-12, 12, (side, side, 3))
        shown = np.clip(np.asarray(image, dtype=np.int64) + noise, 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(shown).save(file, "JPEG", quality=90)
        made.append(file.getvalue())
    return [made[number % len(made)] for number in range(num)]


def classifier(name, chosen):
    """ViT-B/16 or ResNet-50 with new weights, as the transformers library has them."""
    from transformers import (
        ResNetConfig,
        ResNetForImageClassification,
        ViTConfig,
        ViTForImageClassification,
    )

    torch.manual_seed(0)
    if name == "vit":
        shape = {"image_size": chosen.size}
        if chosen.tiny:
            shape |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                      "intermediate_size": 64, "patch_size": 8}  # fmt: skip
        return ViTForImageClassification(ViTConfig(num_labels=CLASSES, **shape))
    shape = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]} if chosen.tiny else {}
    return ResNetForImageClassification(ResNetConfig(num_labels=CLASSES, **shape))


def encoder(chosen, augment="none"):
    """How the engine reads the pictures."""
    size = (chosen.size, chosen.size)
    return ImageEncoder("picture", size, 3, IMAGENET_MEAN, IMAGENET_DEVIATION, augment, 0)


def arrays_of(chosen, *, decoded):
    """The pictures as a line holds them: pixels, or the files end to end."""
    held = files(chosen.rows, chosen.side)
    readable = np.ones(len(held), dtype=bool)
    if decoded:
        size = (chosen.size, chosen.size)
        with ThreadPoolExecutor(chosen.threads) as pool:
            some = list(pool.map(lambda cell: pixels(cell, size, 3), held[:512]))
        shown = np.stack([some[row % len(some)] for row in range(len(held))])
        return {"pixels": shown, "readable": readable}
    sizes = np.array([len(cell) for cell in held], dtype=np.int64)
    whole = np.frombuffer(b"".join(held), dtype=np.uint8)
    return {"files": whole, "ends": np.cumsum(sizes), "readable": readable}


class Network(ImageNetwork):
    """The family's network; weights lie as the pixels do, channels last."""

    def __init__(self, name, chosen, augment):
        body = PretrainedBody(classifier(name, chosen))
        start = torch.zeros(CLASSES)
        super().__init__(body, body.width, start, mean=IMAGENET_MEAN,
                         deviation=IMAGENET_DEVIATION, augment=augment, dropout=0.0)  # fmt: skip
        self.to(memory_format=torch.channels_last)


def engine(name, chosen, layout, *, decoded, augment="none", whole=False, collate=None):
    """The engine on the image family's network and encoder."""
    free(layout.device)
    reader, arrays = encoder(chosen, augment), arrays_of(chosen, decoded=decoded)
    labels = np.random.default_rng(1).integers(0, CLASSES, chosen.rows)
    task = Examples(Labelled(arrays, labels), None, collate or reader.collate, num_classes=CLASSES)
    network = Network(name, chosen, augment)
    if whole and not chosen.tiny:
        network.body.compile(dynamic=False)
    clock = Clock(chosen.warm, chosen.block)
    settings = TrainSettings(
        batch_size=chosen.batch[name] * layout.world,
        micro_batch=chosen.batch[name],
        steps=chosen.warm + chosen.steps,
        precision="fp32" if chosen.tiny else "bf16",
        compile=not chosen.tiny and not whole,
        save_every=10**9,
        threads=chosen.threads,
        optimizer=OptimizerSettings(lr=1e-4, weight_decay=0.05),
    )
    run = prepare(task, network, settings, layout=layout, events=[clock])
    began = time.perf_counter()
    train(run)
    told = speed(chosen, name, clock.times)
    return {**told, "loss": run.packet.loss, "waited_share":
            round(run.waited / (time.perf_counter() - began), 4), "threads": chosen.threads,
            "peak_bytes": peak_bytes(layout.device)}  # fmt: skip


def speed(chosen, name, times):
    """Pictures a second of one card, from the times of steps."""
    middle = statistics.median(times)
    return {"images_per_second": round(chosen.batch[name] / middle, 1), "seconds_a_step": middle,
            "fastest_step": min(times), "slowest_step": max(times),
            "batch": chosen.batch[name]}  # fmt: skip


def bare(name, chosen, layout):
    """A loop by hand over pictures on the card."""
    free(layout.device)
    device = layout.device
    form = Precision("fp32" if chosen.tiny else "bf16", device.type)
    form.apply()
    model = classifier(name, chosen).to(device, memory_format=torch.channels_last).train()
    batch = chosen.batch[name]
    shown = torch.randn(batch, 3, chosen.size, chosen.size, device=device)
    shown = shown.to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch,), device=device)
    called = model
    if layout.world > 1:
        ids = [device.index] if device.type == "cuda" else None
        called = nn.parallel.DistributedDataParallel(
            model, device_ids=ids, gradient_as_bucket_view=True
        )
    if not chosen.tiny:
        called = torch.compile(called, dynamic=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True)
    times, mark = [], 0.0
    for step in range(chosen.warm + chosen.steps + 1):
        if step >= chosen.warm and (step - chosen.warm) % chosen.block == 0:
            wait(device)
            now = time.perf_counter()
            if step > chosen.warm:
                times.append((now - mark) / chosen.block)
            mark = now
        with form.context():
            loss = functional.cross_entropy(called(pixel_values=shown).logits.float(), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return {
        **speed(chosen, name, times),
        "loss": float(loss.detach()),
        "peak_bytes": peak_bytes(device),
    }


def nvjpeg(name, chosen, layout):
    """The engine, with files decoded on the card by torchvision's nvJPEG."""
    if importlib.util.find_spec("torchvision") is None or layout.device.type != "cuda":
        return {"left_out": "torchvision or a GPU is not here"}
    from torchvision.io import ImageReadMode, decode_jpeg

    def collate(arrays, rows, epochs):
        ends = arrays["ends"]
        held = [
            torch.from_numpy(arrays["files"][ends[row - 1] if row else 0 : ends[row]].copy())
            for row in rows.tolist()
        ]
        made = decode_jpeg(held, mode=ImageReadMode.RGB, device=layout.device)
        wide = torch.stack([each[None].float() for each in made]).squeeze(1)
        small = functional.interpolate(wide, (chosen.size, chosen.size), mode="bilinear",
                                       antialias=True)  # fmt: skip
        shown = small.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()
        return {"pixels": shown.cpu().numpy(), "readable": arrays["readable"][rows]}

    return {**engine(name, chosen, layout, decoded=False, collate=collate),
            "note": "decoded and resized on the card, then handed over by the host"}  # fmt: skip


def trainer(name, chosen, layout):
    """Hugging Face's Trainer on tensors that are decoded already."""
    import inspect

    from transformers import Trainer, TrainingArguments

    free(layout.device)
    from lm_peers import trainer_clock

    model = classifier(name, chosen)
    draw = torch.Generator().manual_seed(0)
    few = torch.randn((64, 3, chosen.size, chosen.size), generator=draw)
    steps = chosen.warm + chosen.steps
    rows = [{"pixel_values": few[n % 64], "labels": n % CLASSES}
            for n in range(steps * chosen.batch[name] * layout.world)]  # fmt: skip
    wanted = {"max_steps": steps, "learning_rate": 1e-4,
              "per_device_train_batch_size": chosen.batch[name], "optim": "adamw_torch_fused",
              "bf16": not chosen.tiny, "torch_compile": not chosen.tiny, "report_to": "none",
              "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True,
              "dataloader_num_workers": 0 if chosen.tiny else 8, "use_cpu":
              layout.device.type == "cpu", "lr_scheduler_type": "constant"}  # fmt: skip
    known = inspect.signature(TrainingArguments).parameters
    given = {key: value for key, value in wanted.items() if key in known}
    work = argparse.Namespace(warm=chosen.warm, block=chosen.block)
    with tempfile.TemporaryDirectory() as place:
        mark = trainer_clock(work, layout.device)
        Trainer(model=model, args=TrainingArguments(output_dir=place, **given),
                train_dataset=rows, callbacks=[mark]).train()  # fmt: skip
    return {**speed(chosen, name, mark.clock.times), "settings": given,
            "peak_bytes": peak_bytes(layout.device)}  # fmt: skip


def feed(chosen):
    """Pictures a second that decoding and resizing alone give, by number of threads."""
    held, size = files(min(chosen.rows, 2_048), chosen.side), (chosen.size, chosen.size)
    found = {"bytes_a_file": round(statistics.mean(map(len, held))),
             "cores": len(os.sched_getaffinity(0))}  # fmt: skip
    for threads in (1, 2, 4, 8, 16):
        some = held[: max(32, len(held) * min(threads, 4) // 4)]
        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(lambda cell: pixels(cell, size, 3), some, chunksize=16):
                pass
        found[f"threads_{threads}"] = round(len(some) / (time.perf_counter() - began), 1)
    return found


def cases(chosen, layout):
    """Group, name and what to call."""
    for name in ("vit", "resnet"):
        made = partial(engine, name, chosen, layout)
        yield name, "bare", partial(bare, name, chosen, layout)
        yield name, "engine_card", partial(made, decoded=True)
        if layout.world == 1:
            yield name, "engine_card_whole", partial(made, decoded=True, whole=True)
        yield name, "engine_files", partial(made, decoded=False)
        if layout.world == 1:
            yield name, "engine_files_augmented", partial(made, decoded=False, augment="photo")
            yield name, "engine_nvjpeg", partial(nvjpeg, name, chosen, layout)
        if name == "vit":
            yield name, "trainer", partial(trainer, name, chosen, layout)
        yield name, "bare_again", partial(bare, name, chosen, layout)
    if layout.leads:
        yield "feed", "feed", partial(feed, chosen)


def arguments():
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="vit,resnet,feed")
    parser.add_argument("--cases", default="", help="of the groups; all by default")
    parser.add_argument("--rows", type=int, default=6_144)
    parser.add_argument("--threads", type=int, default=16, help="that decode and make batches")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--limit", type=float, default=480.0, help="seconds; no case begins later")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on the processor")
    parser.add_argument("--out", default="")
    chosen = parser.parse_args()
    chosen.size, chosen.side, chosen.batch = 224, 256, {"vit": 128, "resnet": 256}
    chosen.warm, chosen.steps, chosen.block = 12, 48, 8
    if chosen.tiny:
        chosen.size, chosen.side, chosen.batch = 32, 40, {"vit": 4, "resnet": 4}
        chosen.warm, chosen.steps, chosen.block, chosen.rows, chosen.threads = 1, 4, 2, 64, 2
    return chosen


def main() -> None:
    chosen = arguments()
    if chosen.processes > 1 and "WORLD_SIZE" not in os.environ:
        launch([__file__, *sys.argv[1:]], chosen.processes)
        return
    layout = Layout.open("ddp" if chosen.processes > 1 else "single")
    cuda = layout.device.type == "cuda"
    card = torch.cuda.get_device_name(layout.device) if cuda else platform.machine()
    facts = {"device": card, "torch": torch.__version__, "python": platform.python_version(),
             "world": layout.world, "settings": vars(chosen)}  # fmt: skip
    if not layout.leads:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # until the end
    report = Report(chosen.limit, chosen.out if layout.leads else "", layout.device, facts)
    wanted, picked = chosen.only.split(","), [c for c in chosen.cases.split(",") if c]
    for group, case, call in itertools.chain(cases(chosen, layout)):
        if group in wanted and (not picked or case in picked):
            name = f"{group} {case}"
            late = layout.gather(time.time() - report.began > chosen.limit)[0]
            if late:
                report.limit = -1.0
            report.attempt(name, lambda name=name, call=call: {"case": name, **call()})
    report.write()
    layout.close()


if __name__ == "__main__":
    main()
