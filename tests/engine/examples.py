"""Small tasks of texts and of images, with their networks, for the tests over processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from loopline.nets.examples import Examples, Labelled

ROWS, VALID, CLASSES = 23, 9, 3


def pictures() -> tuple[Examples, torch.nn.Module]:
    """Grey images, moved and mixed in training, and the small residual network."""
    from loopline.models.image_encoder import draws
    from loopline.nets.image import NUM_DRAWS, ImageNetwork, SmallBody
    from loopline.nets.mixing import Mix, MixedExamples

    def collate(arrays: Any, rows: Any, epochs: Any) -> Any:
        batch = {name: values[rows] for name, values in arrays.items()}
        moved = {} if epochs is None else {"draws": draws(3, rows, epochs, NUM_DRAWS)}
        return batch | moved

    def labelled(rows: int, seed: int) -> Labelled:
        draw = np.random.default_rng(seed)
        target = draw.integers(0, CLASSES, rows)
        shown = draw.integers(0, 100, (rows, 16, 16, 1)) + 50 * target[:, None, None, None]
        arrays = {"pixels": shown.astype(np.uint8), "readable": draw.random(rows) > 0.1}
        return Labelled(arrays, target, draw.uniform(0.5, 1.5, rows).astype(np.float32))

    plain = Examples(labelled(ROWS, 5), labelled(VALID, 6), collate, num_classes=CLASSES)
    torch.manual_seed(0)
    body = SmallBody(1, (16, 16), 8, 1)
    network = ImageNetwork(
        body, body.width, torch.zeros(CLASSES), mean=[0.5], deviation=[0.25], augment="shift",
        dropout=0.2,
    )  # fmt: skip
    return MixedExamples(plain, Mix("cutmix", 4)), network


def texts() -> tuple[Examples, torch.nn.Module]:
    """Rows of a few to forty tokens, batched by length, and a BERT of two layers."""
    from transformers import BertConfig, BertModel

    from loopline.nets.text import TextNet

    def collate(arrays: Any, rows: Any, epochs: Any) -> Any:
        del epochs
        ends = arrays["ends"]
        parts = [arrays["tokens"][ends[row] : ends[row + 1]] for row in rows.tolist()]
        width = max(part.size for part in parts)
        ids = np.zeros((len(parts), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for place, part in enumerate(parts):
            ids[place, : part.size], mask[place, : part.size] = part, 1
        return {"input_ids": ids, "attention_mask": mask}

    def labelled(rows: int, seed: int) -> Labelled:
        draw = np.random.default_rng(seed)
        lengths = draw.integers(3, 40, rows)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        tokens = draw.integers(1, 50, ends[-1])
        arrays = {"tokens": tokens, "ends": ends}
        return Labelled(arrays, tokens[ends[:-1]] % CLASSES, None, lengths)

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=40,
    )  # fmt: skip
    network = TextNet(
        BertModel(config, add_pooling_layer=False),
        torch.zeros(CLASSES),
        hidden=16,
        pooling="mean",
        dropout=0.2,
    )
    task = Examples(labelled(ROWS, 5), labelled(VALID, 6), collate, num_classes=CLASSES)
    return task, network
