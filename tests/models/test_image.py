"""The image family: what augmentation may do, what it refuses, and what it does with damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the image family needs the extra `neural`")
pytest.importorskip("PIL", reason="the image family needs the extra `images`")

import torch
from tests.models.tiny_images import SIZE, TinyResNet, TinySmall, tiny_model

from loopline.errors import DataError, IntegrityError, SettingsError
from loopline.models import image_encoder
from loopline.models.base import FitContext
from loopline.models.families import family
from loopline.models.image import Image
from loopline.models.image_encoder import ImageEncoder, draws
from loopline.nets.examples import Examples, Labelled
from loopline.nets.image import NUM_DRAWS, ImageNetwork, SmallBody, augmented
from loopline.nets.mixing import Mix, MixedExamples
from loopline.progress import SilentReporter
from loopline.testing.families import make_view, table_for
from loopline.testing.images import png


class Notes(SilentReporter):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        """Keep a note."""
        self.texts.append(text)


def ramp(rows: int = 2, side: int = 16, channels: int = 1) -> Any:
    """Images that grow brighter from left to right."""
    line = torch.linspace(0.1, 0.9, side)
    return line.expand(rows, channels, side, side).contiguous()


def mixed(kind: str, *, unreadable: int | None = None) -> MixedExamples:
    """Eight grey images of one brightness each, of eight classes."""
    shade = np.arange(8, dtype=np.uint8) * 30
    readable = np.arange(8) != unreadable
    arrays = {
        "pixels": np.broadcast_to(shade[:, None, None, None], (8, 8, 8, 1)).copy(),
        "readable": readable,
    }
    weight = np.linspace(0.5, 1.5, 8, dtype=np.float32)
    rows = Labelled(arrays, np.arange(8), weight)

    def collate(arrays: Any, rows: Any, epochs: Any) -> Any:
        del epochs
        return {name: values[rows] for name, values in arrays.items()}

    return MixedExamples(Examples(rows, None, collate, num_classes=8), Mix(kind, 7))


# --- mixing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_mixture_is_its_parts_by_their_shares(kind: str) -> None:
    """The mean brightness is that of both images by the share that the loss is weighed by."""
    batch = mixed(kind).batch(np.arange(8), np.zeros(8, np.int64), train=True)
    share, other = batch["share"].numpy(), batch["other"].numpy()
    expected = 30 * (np.arange(8) * share + other * (1 - share))
    found = batch["in.pixels"].float().mean(dim=(1, 2, 3)).numpy()
    np.testing.assert_allclose(found, expected, atol=0.51)
    assert ((share > 0) & (share < 1)).any()


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixtures_do_not_depend_on_how_rows_are_cut_into_batches(kind: str) -> None:
    """Partner, share and place follow from row and epoch; other epochs mix otherwise."""
    task = mixed(kind)
    whole = task.batch(np.arange(8), np.full(8, 3), train=True)
    part = task.batch(np.array([5, 2]), np.array([3, 3]), train=True)
    later = task.batch(np.arange(8), np.full(8, 4), train=True)
    for name, values in part.items():
        assert torch.equal(values, whole[name][[5, 2]])
    assert not torch.equal(whole["other"], later["other"])


def test_the_loss_counts_both_targets_by_share_and_weight() -> None:
    """Worked by hand: sum of weight × share × −log p over both targets of each row."""
    task = mixed("mixup")
    batch = task.batch(np.arange(8), np.zeros(8, np.int64), train=True)
    scores = torch.linspace(-1, 1, 64).reshape(8, 8)
    total, mass = task.loss(lambda **inputs: scores, batch)
    logs = torch.log_softmax(scores, dim=1)
    own, other = batch["share"] * batch["weight"], (1 - batch["share"]) * batch["other_weight"]
    rows = torch.arange(8)
    by_hand = -(own * logs[rows, batch["target"]] + other * logs[rows, batch["other"]]).sum()
    assert float(total) == pytest.approx(float(by_hand), rel=1e-5)
    assert float(mass) == pytest.approx(float((own + other).sum()), rel=1e-6)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_an_unreadable_image_is_mixed_with_nothing(kind: str) -> None:
    """Neither as the row nor as the partner."""
    task = mixed(kind, unreadable=4)
    for epoch in range(10):
        batch = task.batch(np.arange(8), np.full(8, epoch), train=True)
        alone = (batch["other"] == 4) | (batch["target"] == 4)
        assert (batch["share"][alone] == 1.0).all()


def test_rows_that_are_scored_are_not_mixed() -> None:
    """Mixing is for training rows only."""
    batch = mixed("mixup").batch(np.arange(8), np.zeros(8, np.int64), train=False)
    assert "share" not in batch


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_network_learns_from_mixtures(kind: str) -> None:
    """The family trains with it: another model than without, with a probability for each class."""
    plain, model = (fitted(TinySmall(), {"mix": mix, "epochs": 2.0}) for mix in ("none", kind))
    table = table_for(TinySmall(), "binary", 40)
    answers = model.predict(table)
    np.testing.assert_allclose(answers.sum(axis=1), 1.0)
    assert not np.array_equal(answers, plain.predict(table))


# --- augmentation --------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**62), st.lists(st.integers(0, 10**9), min_size=1, max_size=20), st.data())
def test_draws_do_not_depend_on_the_batch(seed: int, rows: list[int], data: st.DataObject) -> None:
    """However rows are cut into batches, each gets the same numbers, all in [0, 1)."""
    cut = data.draw(st.integers(0, len(rows)))
    epochs = np.array([row % 5 for row in rows])
    every = draws(seed, np.array(rows), epochs, 4)
    parts = [
        draws(seed, np.array(rows[part], dtype=np.int64), epochs[part], 4)
        for part in (slice(0, cut), slice(cut, None))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), every)
    assert ((every >= 0) & (every < 1)).all()


def test_draws_are_even_and_unlike_one_another() -> None:
    """Rows, epochs, places and seeds give unrelated numbers of mean 1/2 and deviation √(1/12)."""
    rows = np.arange(20_000)
    base = draws(1, rows, np.zeros_like(rows), 2)
    others = [draws(1, rows, np.ones_like(rows), 2), draws(2, rows, np.zeros_like(rows), 2)]
    columns = [base[:, 0], base[:, 1], *(other[:, 0] for other in others), np.roll(base[:, 0], 1)]
    assert all(abs(column.mean() - 0.5) < 0.01 for column in columns)
    assert all(abs(column.std() - np.sqrt(1 / 12)) < 0.01 for column in columns)
    likeness = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(likeness).max() < 0.03


@pytest.mark.parametrize("kind", ["shift", "photo"])
def test_middle_draws_change_nothing(kind: str) -> None:
    """Draws of one half are no shift, no turn, no zoom, no light."""
    images = ramp()
    same = augmented(images, torch.full((2, NUM_DRAWS), 0.5), kind)
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["shift", "photo", "flip"])
def test_only_flip_mirrors(kind: str) -> None:
    """Left stays left for every draw; where mirroring was asked for, in half of them."""
    drawn = torch.from_numpy(draws(3, np.arange(400), np.zeros(400, dtype=np.int64), NUM_DRAWS))
    moved = augmented(ramp(400), drawn, kind)
    turned = (moved[..., :4].mean(dim=(1, 2, 3)) > moved[..., -4:].mean(dim=(1, 2, 3))).float()
    share = float(turned.mean())
    assert abs(share - 0.5) < 0.08 if kind == "flip" else share == 0.0


def test_pictures_stay_pictures() -> None:
    """Whatever is drawn, points stay from 0 to 1 and a picture is not lost from view."""
    drawn = torch.from_numpy(draws(4, np.arange(200), np.zeros(200, dtype=np.int64), NUM_DRAWS))
    moved = augmented(ramp(200, channels=3), drawn, "photo")
    assert float(moved.min()) >= 0.0
    assert float(moved.max()) <= 1.0
    assert float((moved - ramp(200, channels=3)).abs().mean()) < 0.15


def test_grey_is_shifted_and_colour_lit() -> None:
    """`augment: auto` follows the training pictures; nothing is done when predicting."""
    grey = fitted(TinySmall(), {"augment": "auto", "epochs": 0.1}).encoder
    assert (grey.augment, grey.channels) == ("shift", 1)
    rng = np.random.default_rng(0)
    table = table_for(Image(), "binary", 40)
    colour = table.with_columns(
        picture=pl.Series([png(rng.integers(0, 255, (12, 12, 3))) for _ in range(40)])
    )
    lit = fitted(TinySmall(), {"augment": "auto", "epochs": 0.1}, colour).encoder
    assert (lit.augment, lit.channels) == ("photo", 3)
    arrays, rows = grey.encode(table), np.arange(5)
    assert "draws" in grey.collate(arrays, rows, np.zeros(5, dtype=np.int64))
    assert "draws" not in grey.collate(arrays, rows, None)


# --- the network ---------------------------------------------------------------------------------


def small(channels: int = 1) -> ImageNetwork:
    """A small network in 64 bits."""
    torch.manual_seed(0)
    body = SmallBody(channels, (16, 16), 8, 1)
    start = torch.tensor([0.3, -0.3])
    scales = {"mean": [0.5] * channels, "deviation": [0.25] * channels}
    network = ImageNetwork(body, body.width, start, **scales, augment="none", dropout=0.0)
    return network.double()


def test_a_gradient_does_not_depend_on_the_rows_beside_it() -> None:
    """The sum over a batch has the gradient of the sums over its parts: no norm goes by batch."""
    network = small().train()
    pixels = torch.randint(0, 255, (6, 16, 16, 1), dtype=torch.uint8)
    readable = torch.ones(6, dtype=torch.bool)
    totals = []
    for cuts in ([6], [1, 5], [2, 2, 2]):
        network.zero_grad()
        for part, known in zip(pixels.split(cuts), readable.split(cuts), strict=True):
            network(part, known).square().sum().backward()
        totals.append([value.grad.clone() for value in network.parameters()])
    for other in totals[1:]:
        torch.testing.assert_close(other, totals[0], rtol=1e-9, atol=1e-12)


def test_a_row_without_an_image_gets_the_constant_answer_and_teaches_nothing() -> None:
    """Its scores are the first bias of the head, and no weight has a gradient of it."""
    network = small().train()
    scores = network(torch.zeros(1, 16, 16, 1, dtype=torch.uint8), torch.tensor([False]))
    torch.testing.assert_close(scores, torch.tensor([[0.3, -0.3]]).double(), rtol=0, atol=1e-7)
    scores.sum().backward()
    assert all(float(value.grad.abs().max()) == 0.0 for value in network.parameters())


# --- fits ----------------------------------------------------------------------------------------


def fitted(kind: Image, params: dict[str, Any], table: Any = None, **context: Any) -> Any:
    """A fit on a table of pictures."""
    table = table_for(kind, "binary", 40) if table is None else table
    return kind.fit(make_view("binary", table), None, params, FitContext(seed=5, **context))


def test_unreadable_images_are_named_and_learned_from_by_nobody() -> None:
    """A damaged picture among many is told by its row; the model is that without its row."""
    table = table_for(Image(), "binary", 30).filter(pl.col("picture").is_not_null())
    damaged = table["picture"].to_list()
    damaged[7] = damaged[7][:60]
    table = table.with_columns(picture=pl.Series(damaged))
    notes = Notes()
    model = fitted(TinySmall(), {"epochs": 2.0}, table, reporter=notes)
    assert "1 training row cannot be read and takes no part: row 8." in notes.texts
    known = table.with_row_index().filter(pl.col("index") != 7)
    share = float((known["target"] == "yes").mean())
    np.testing.assert_allclose(model.predict(table)[7], [1 - share, share], atol=1e-6)


def test_no_readable_image_is_refused() -> None:
    """A column of nothing but damage cannot be learned from."""
    table = table_for(Image(), "binary", 20).with_columns(picture=pl.lit(b"no image"))
    with pytest.raises(DataError, match=r"No image of column 'picture' can be read"):
        fitted(TinySmall(), {}, table)


def test_files_that_are_many_are_decoded_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit the cache gives the same batches, and the same model."""
    first = fitted(TinySmall(), {"epochs": 1.0})
    monkeypatch.setattr(image_encoder, "CACHE_BYTES", 100)
    table = table_for(Image(), "binary", 40)
    arrays = first.encoder.encode(table)
    assert set(arrays) == {"files", "ends", "readable"}
    second = fitted(TinySmall(), {"epochs": 1.0})
    np.testing.assert_allclose(second.predict(table), first.predict(table), atol=1e-6)


def test_other_features_take_no_part_and_are_named() -> None:
    """Columns of other types are passed over in words."""
    table = table_for(Image(), "binary", 30).with_columns(size=pl.lit(1.0))
    notes = Notes()
    fitted(TinySmall(), {"epochs": 0.1}, table, reporter=notes)
    assert "The image family reads 'picture' only, and not size." in notes.texts


def test_a_table_without_images_is_refused() -> None:
    """The family needs a column of the type image."""
    with pytest.raises(DataError, match=r"reads one feature of the type image.*has none"):
        family("image").fit(make_view("binary"), None, {}, FitContext(seed=0))


def test_other_families_say_why_they_cannot_take_pictures_alone() -> None:
    """A table of numbers cannot be made from images."""
    view = make_view("binary", table_for(Image(), "binary", 30))
    with pytest.raises(DataError, match=r"only features are images \(picture\).*the image family"):
        family("linear").fit(view, None, {}, FitContext(seed=0))


def test_other_families_pass_over_pictures() -> None:
    """Beside other features an image column changes nothing for a family of tables."""
    table = table_for(family("linear"), "binary", 60)
    both = table.with_columns(picture=pl.lit(png(np.zeros((4, 4)))))
    context = FitContext(seed=0)
    plain = family("linear").fit(make_view("binary", table), None, {}, context)
    beside = family("linear").fit(make_view("binary", both), None, {}, context)
    np.testing.assert_array_equal(beside.predict(both), plain.predict(table))


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_pretrained_model_needs_its_folder_no_more(kind: str, tmp_path: Path) -> None:
    """A saved model holds weights and configuration: it loads when the original is gone."""
    pytest.importorskip("transformers")
    import shutil

    shutil.copytree(tiny_model(kind), tmp_path / "original")
    table = table_for(Image(), "binary", 30)
    params = {"model": str(tmp_path / "original"), "epochs": 1.0, "size": SIZE}
    model = fitted(Image(), params, table)
    model.save(tmp_path / "saved")
    shutil.rmtree(tmp_path / "original")
    loaded = Image().load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict(table), model.predict(table))


def test_a_linear_head_is_the_linear_model_of_the_features() -> None:
    """`tune: head` leaves the body as it came, and its training rows are told apart by the head."""
    pytest.importorskip("transformers")
    from safetensors.torch import load_file

    table = table_for(Image(), "binary", 120)
    model = fitted(TinyResNet(), {}, table)
    before = load_file(Path(tiny_model("resnet")) / "model.safetensors")
    after = {
        name.removeprefix("body.model."): value
        for name, value in model.network.state_dict().items()
        if name.startswith("body.model.")
    }
    assert after
    assert all(torch.equal(before[name], value.float()) for name, value in after.items())
    known = table["picture"].is_not_null().to_numpy()
    right = (model.predict(table)[:, 1] > 0.5) == (table["target"] == "yes").to_numpy()
    assert right[known].mean() > 0.9


# --- refusals ------------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is not asked, and nothing was downloaded before."""
    hub = pytest.importorskip("huggingface_hub")
    pytest.importorskip("transformers")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"model": "/nowhere/resnet"}, r"names a folder that is not there"),
        ({"model": 3}, r"`model` of the image family must be a name, got 3"),
        ({"model": "small", "tune": "head"}, r"`tune: head` needs a pretrained `model`"),
        ({"augment": "mirror"}, r"`augment` of the image family must be"),
        ({"size": 4}, r"`size` of the image family must be"),
        ({"mix": "blend"}, r"`mix` of the image family must be"),
        (
            {"model": "some/model", "tune": "head", "mix": "mixup", "learning_rate": 0.1},
            r"(?s)`learning_rate` of the image family has no effect with `tune: head`.*"
            r"`mix` of the image family has no effect",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(params: dict[str, Any], message: str) -> None:
    """Each is told with what it must be."""
    with pytest.raises(SettingsError, match=message):
        fitted(Image(), params)


@pytest.mark.usefixtures("offline")
def test_an_unknown_id_offline_says_what_can_be_given() -> None:
    """A model that can be found nowhere is told with the ways on."""
    with pytest.raises(SettingsError, match=r"nobody/nothing` cannot be loaded.*Offline, give"):
        fitted(Image(), {"model": "nobody/nothing"})


@pytest.mark.usefixtures("offline")
def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    """A checkpoint whose tensors do not fit its configuration is told with a tensor's shapes."""
    import shutil

    folder = shutil.copytree(tiny_model("resnet"), tmp_path / "wrong")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_sizes": [8, 32]}))
    with pytest.raises(SettingsError, match=r"has the shape \(16,.* in the file and \(32,"):
        fitted(Image(), {"model": str(folder), "size": SIZE})


@pytest.mark.usefixtures("offline")
def test_weights_that_may_be_code_are_refused(tmp_path: Path) -> None:
    """Only safetensors are read."""
    import shutil

    folder = shutil.copytree(tiny_model("vit"), tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SettingsError, match=r"no safetensors weights"):
        fitted(Image(), {"model": str(folder)})


@pytest.mark.usefixtures("offline")
def test_a_size_that_a_model_cannot_read_is_refused() -> None:
    """A ViT reads one size only."""
    with pytest.raises(SettingsError, match=r"reads images of 16 × 16 points only"):
        fitted(Image(), {"model": tiny_model("vit"), "size": 32})


def test_saved_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """A model whose weights were exchanged does not answer."""
    fitted(TinySmall(), {"epochs": 0.1}).save(tmp_path / "a")
    fitted(TinySmall(), {"epochs": 0.1, "width": 16}).save(tmp_path / "b")
    (tmp_path / "b" / "weights.safetensors").replace(tmp_path / "a" / "weights.safetensors")
    with pytest.raises(IntegrityError, match=r"does not hold the weights of this image network"):
        Image().load(tmp_path / "a").predict(table_for(Image(), "binary", 3))


def test_a_damaged_encoder_is_refused(tmp_path: Path) -> None:
    """A folder without a whole encoder is told."""
    (tmp_path / "encoder.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"does not hold an image encoder"):
        ImageEncoder.load(tmp_path)
