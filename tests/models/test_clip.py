"""Images found by words: the loss, its gradient on two processes, folders, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="the clip family needs the extra `neural`")
pytest.importorskip("PIL", reason="the clip family needs the extra `images`")

import torch
from safetensors.torch import load_file, save_file
from tests.models.tiny_clip import SHOWN, make_pairs, pairs_view, tiny_clip
from tests.models.tiny_text import tiny_encoder

from loopline.data.retrieval import gallery_of, with_numbers
from loopline.data.schema import Column, Schema
from loopline.errors import DataError, SettingsError
from loopline.evaluate.metrics import metric
from loopline.models.base import FitContext
from loopline.models.baseline import Baseline
from loopline.models.clip import Clip
from loopline.nets.clip import Pairs, contrastive_loss
from loopline.nets.clip_task import PairTask, ranks
from loopline.progress import SilentReporter
from loopline.splits.split import all_train
from loopline.splits.views import TrainView

QUICK = {"width": 16, "layers": 1, "batch_size": 32, "epochs": 12.0, "learning_rate": 3e-3}


def test_equal_captions_are_all_right_answers() -> None:
    """By hand: with two equal captions of two pairs every answer is right, so the loss is ln 2."""
    images = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    pairs = Pairs(images, images, torch.tensor([5, 5]), torch.ones(2))
    assert float(contrastive_loss(pairs, pairs, torch.tensor(3.0))) == pytest.approx(2 * np.log(2))


def test_pairs_of_weight_zero_count_for_nothing() -> None:
    """The loss and its gradient are those of the batch without them."""
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(2, 5, 4, generator=draw, dtype=torch.float64)
    codes, weight = torch.tensor([0, 1, 2, 1, 1]), torch.tensor([1.0, 1, 1, 0, 1]).double()
    found = []
    for kept in (slice(None), [0, 1, 2, 4]):
        images, captions = (v[kept].clone().requires_grad_() for v in values)
        pairs = Pairs(images, captions, codes[kept], weight[kept])
        loss = contrastive_loss(pairs, pairs, torch.tensor(2.0))
        loss.backward()
        found.append((loss.item(), images.grad[[0, 1, 2, -1]], captions.grad[[0, 1, 2, -1]]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other))


def test_pairs_count_by_their_weights() -> None:
    """By hand: each of two pairs loses ln(1 + 1/e), once for a weight of 2 and once for 0.5."""
    unit = torch.eye(2)
    pairs = Pairs(unit, unit, torch.tensor([0, 1]), torch.tensor([2.0, 0.5]))
    wanted = 2.5 * np.log(1.0 + np.exp(-1.0))
    assert float(contrastive_loss(pairs, pairs, torch.tensor(1.0))) == pytest.approx(wanted)


def test_both_directions_count() -> None:
    """By hand: two captions that look alike cost each image ln 2; among the images one of them
    finds its own, at ln(1 + 1/e), and the other the wrong one, at ln(1 + e)."""
    images, captions = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    pairs = Pairs(images, captions, torch.tensor([0, 1]), torch.ones(2))
    wanted = 0.5 * (2 * np.log(2) + np.log(1 + np.exp(-1)) + np.log(1 + np.e))
    assert float(contrastive_loss(pairs, pairs, torch.tensor(1.0))) == pytest.approx(wanted)


def test_the_factor_ends_at_a_hundred(fitted) -> None:
    """However large the learned scale, cosines are multiplied by 100 at most (Radford 2021)."""
    scale = fitted.network.scale
    kept = scale.detach().clone()
    with torch.no_grad():
        scale.fill_(9.0)
        most = fitted.factor
        scale.copy_(kept)
    assert most == pytest.approx(100.0)


def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    """The loss is that of the global batch: halves on two processes change no gradient."""
    from loopline.engine.tools.launch import launch

    script = str(Path(__file__).with_name("clip_worker.py"))
    root = str(Path(__file__).parents[2])
    import loopline

    paths = {"PYTHONPATH": f"{Path(loopline.__file__).parents[1]}:{root}"}
    for count in (1, 2):
        launch([script, str(tmp_path / f"{count}")], count, environment=paths)
    one, two = (load_file(tmp_path / f"{count}") for count in (1, 2))
    assert one.keys() == two.keys()
    whole = torch.cat([value.flatten() for value in one.values()])
    apart = torch.cat([(two[name] - value).flatten() for name, value in one.items()])
    assert float(whole.norm()) > 1e-3
    assert float(apart.norm() / whole.norm()) < 1e-5


def test_a_batch_that_was_cut_is_refused() -> None:
    """A micro-batch compares fewer pairs, so it is an error and not another loss."""
    view = pairs_view(make_pairs(16))
    kind = Clip()
    encoder, arrays = kind.learn(view, kind.resolve({}, "retrieval", 16), FitContext(seed=0))
    task = PairTask(arrays, arrays["codes"], None, None, encoder.collate, 16)
    batch = task.batch(np.arange(8), np.zeros(8, dtype=np.int64), train=True)
    with pytest.raises(SettingsError, match=r"compares all 16 pairs of a batch, and 1 × 8 would"):
        task.loss(None, batch)


def test_held_out_pairs_are_scored_by_weight_and_not_augmented() -> None:
    """By hand: of two pairs the first is right at ln(1 + 1/e), the second wrong at ln(1 + e); their
    weights are 3 and 1. Augmentation is asked for in training alone."""
    asked: list[bool] = []

    def collate(arrays, rows, epochs):
        asked.append(epochs is not None)
        return {"pixels": rows}

    weight = np.array([3.0, 1.0], dtype=np.float32)
    held = ({}, np.array([7, 9]), weight)
    task = PairTask({}, np.array([7, 9]), None, held, collate, 2)
    vectors = np.array([[1.0, 0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0, 1.0]])
    value, others = task.score(vectors)
    losses = np.log(1 + np.exp(-1)), np.log(1 + np.e)
    assert value == pytest.approx((3 * losses[0] + losses[1]) / 4)
    assert others["recall_at_1"] == pytest.approx(0.75)
    rows = np.arange(2)
    for train in (True, False):
        task.batch(rows, rows, train=train)
    assert asked == [True, False]


def test_ranks_by_hand() -> None:
    """Better captions stand before, equal ones share, the row's own does not count twice."""
    images = np.array([[1.0, 0.0]])
    others = np.array([[0.9, 0.1], [0.5, 0.5], [0.5, -0.5], [0.1, 0.9]])
    own = others[1:2]
    same = np.array([[False, True, False, False]])
    assert ranks(images, own, others, same).tolist() == [2.5]


def test_metrics_of_ranks_by_hand() -> None:
    """Ranks 1, 2 and 10: recall at 1 is 1/3, at 5 2/3, the mean reciprocal rank 1.6 / 3."""
    y, prediction = np.arange(3.0), np.array([1.0, 2.0, 10.0])
    wanted = {"recall_at_1": 1 / 3, "recall_at_5": 2 / 3, "mean_reciprocal_rank": 1.6 / 3}
    for name, value in wanted.items():
        chosen = metric(name, "retrieval")
        assert chosen.score(chosen.rows(y, prediction)).value == pytest.approx(value)


def test_the_baseline_ranks_by_frequency() -> None:
    """The commonest caption comes first, equals share their ranks, an unknown one is last."""
    captions = ["b", "b", "b", "a", "c"]
    files = make_pairs(5)["picture"]
    view = pairs_view(pl.DataFrame({"picture": files, "caption": captions}))
    model = Baseline().fit(view, None, {}, FitContext(seed=0))
    asked = pl.DataFrame({"caption": ["b", "a", "c", "never"]})
    assert model.predict(asked).tolist() == [1.0, 2.5, 2.5, 4.0]


@pytest.fixture(scope="module")
def fitted() -> object:
    """The small network, trained on four kinds of pictures."""
    return Clip().fit(pairs_view(make_pairs(128)), None, QUICK, FitContext(seed=2))


def test_captions_are_found_from_held_out_pictures(fitted) -> None:
    """Trained from nothing, it names new pictures by words."""
    found = fitted.predict(make_pairs(60, seed=9))
    assert (found == 1.0).mean() > 0.9


def test_a_saved_model_answers_to_the_bit(fitted, tmp_path: Path) -> None:
    """Loaded, it gives the same vectors, and saves the same bytes again."""
    fitted.save(tmp_path / "one")
    loaded = Clip().load(tmp_path / "one")
    table = make_pairs(20, seed=4)
    np.testing.assert_array_equal(loaded.predict(table), fitted.predict(table))
    np.testing.assert_array_equal(loaded.caption_vectors(SHOWN), fitted.caption_vectors(SHOWN))
    loaded.save(tmp_path / "two")
    for name in ("weights.safetensors", "encoder/clip.json", "model.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_rank_does_not_depend_on_the_rows_beside_it(fitted) -> None:
    """Rows predicted alone have the ranks that they have together."""
    table = make_pairs(9, seed=5)
    alone = [fitted.predict(table[row])[0] for row in range(9)]
    np.testing.assert_array_equal(fitted.predict(table), alone)


def test_a_hugging_face_folder_answers_as_the_library_does() -> None:
    """With `tune: none` vectors are those of `CLIPModel`, its processor's numbers included."""
    pytest.importorskip("transformers")
    from transformers import CLIPModel

    params = {"model": str(tiny_clip()), "tune": "none"}
    model = Clip().fit(pairs_view(make_pairs(16)), None, params, FitContext(seed=0))
    library = CLIPModel.from_pretrained(tiny_clip())
    numbers = torch.tensor([[2, 4, 5, 6, 3], [2, 4, 5, 8, 3]])
    with torch.no_grad():
        pooled = library.text_model(input_ids=numbers).pooler_output
        wanted = library.text_projection(pooled)
        shown = model.encoder.image.encode(make_pairs(4).select("picture"))["pixels"]
        mean, deviation = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
        pixels = ((torch.from_numpy(shown) / 255.0 - mean) / deviation).permute(0, 3, 1, 2)
        seen = library.visual_projection(library.vision_model(pixel_values=pixels).pooler_output)
    for found, other in (
        (model.caption_vectors(["a bright left", "a bright top"]), wanted),
        (model.image_vectors(make_pairs(4)["picture"].to_list()), seen),
    ):
        unit = torch.nn.functional.normalize(other, dim=-1).double().numpy()
        np.testing.assert_allclose(found, unit, rtol=0, atol=1e-5)
    assert model.factor == pytest.approx(float(library.logit_scale.detach().exp()), rel=1e-5)


def test_a_hugging_face_folder_is_tuned_and_saved_whole(tmp_path: Path) -> None:
    """Tuned, it is better than as it came, and needs the folder no more."""
    pytest.importorskip("transformers")
    params = {"model": str(tiny_clip()), "epochs": 20.0, "batch_size": 32, "learning_rate": 3e-3}
    view, table = pairs_view(make_pairs(96)), make_pairs(40, seed=8)
    tuned = Clip().fit(view, None, params, FitContext(seed=0))
    raw = Clip().fit(view, None, {"model": str(tiny_clip()), "tune": "none"}, FitContext(seed=0))
    assert (tuned.predict(table) == 1.0).mean() > (raw.predict(table) == 1.0).mean() + 0.3
    tuned.save(tmp_path)
    np.testing.assert_array_equal(Clip().load(tmp_path).predict(table), tuned.predict(table))


def test_a_folder_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    """A CLIP without one of its tensors is not filled with random numbers."""
    pytest.importorskip("transformers")
    folder = Path(shutil.copytree(tiny_clip(), tmp_path / "clip"))
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    params = {"model": str(folder), "tune": "none"}
    with pytest.raises(SettingsError, match=r"1 tensors are missing"):
        Clip().fit(pairs_view(make_pairs(8)), None, params, FitContext(seed=0))


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"tune": "none"}, "`tune: none` needs a pretrained `model`"),
        ({"model": "/nowhere/clip"}, "names a folder that is not there"),
        ({"model": lambda: str(tiny_encoder())}, "is no CLIP; the clip family takes one"),
        ({"model": lambda: str(tiny_clip()), "width": 9}, "`width` of the clip family has no eff"),
        ({"micro_batch": 4}, "has no parameter `micro_batch`"),
        ({"template": "a {}"}, "`template` has no effect with captions"),
        ({"template": "a"}, "must have {} where the name of a class goes"),
        ({"model": lambda: str(tiny_clip()), "tune": "head"}, "`tune: head` needs classes"),
    ],
)
def test_settings_that_make_no_sense_are_refused(params: dict, told: str) -> None:
    """A wrong folder, a setting without effect, and accumulation are each one clear sentence."""
    given = {name: value() if callable(value) else value for name, value in params.items()}
    with pytest.raises(SettingsError, match=told):
        Clip().fit(pairs_view(make_pairs(8)), None, given, FitContext(seed=0))


def test_pairs_without_images_are_told_and_left_out() -> None:
    """A missing or damaged image takes no part and is named; a table of none is refused."""
    pairs = make_pairs(32)
    files = pairs["picture"].to_list()
    files[3], files[5] = None, b"no image"
    some = pairs.with_columns(pl.Series("picture", files, dtype=pl.Binary))
    heard = SilentReporter()
    params = {**QUICK, "epochs": 1.0, "batch_size": 16}
    model = Clip().fit(pairs_view(some), None, params, FitContext(seed=0, reporter=heard))
    assert heard.notes == ["2 training rows cannot be read and take no part: row 4, 6."]
    assert np.isfinite(model.predict(some)).all()
    none = pairs.with_columns(picture=pl.lit(b"no image"))
    feature = {"picture": {"type": "image", "role": "feature"}}
    with pytest.raises(DataError, match=r"No image of column 'picture' can be read"):
        Clip().fit(pairs_view(none, feature), None, params, FitContext(seed=0))


def test_captions_that_are_missing_and_tables_without_images_are_refused() -> None:
    """Each is one sentence that says what to do."""
    pairs = make_pairs(8)
    with pytest.raises(DataError, match=r"2 of 8 rows have no caption in 'caption' \(row 1, 3\)"):
        with_numbers(pairs.with_columns(caption=pl.Series([None, "a", " ", *"bcdef"])), "caption")
    with pytest.raises(DataError, match=r"There is no column 'captoin'; did you mean 'caption'\?$"):
        with_numbers(pairs, "captoin")
    with pytest.raises(DataError, match=r"finds images by words, and 'caption' is of type Int64"):
        with_numbers(pairs.with_columns(caption=pl.int_range(8)), "caption")
    with pytest.raises(DataError, match=r"pairs each caption with one image, and the table has no"):
        pairs_view(pairs.with_columns(picture=pl.lit("a.png")), {})


def test_the_gallery_follows_from_the_captions_alone() -> None:
    """Their order and number do not matter, and it never holds more than its size."""
    captions = [f"caption {number}" for number in range(1_500)]
    found = gallery_of(captions)
    assert len(found) == 1_000
    assert found == gallery_of([*captions[::-1], *captions[:9]])


def classes_view(rows: int = 96, seed: int = 0) -> tuple[TrainView, pl.DataFrame]:
    """The same pictures with classes in place of captions."""
    pairs = make_pairs(rows, seed)
    side = pairs["caption"].str.replace("a bright ", "")
    table = pairs.select("picture").with_columns(y=side)
    names = tuple(text.removeprefix("a bright ") for text in SHOWN)
    schema = Schema(
        (Column("picture", "image"), Column("y", "category", "target")), "multiclass", names
    )
    digests = np.random.default_rng(3).integers(0, 2**63, (rows, 2)).astype(np.uint64)
    return all_train(digests).train_view(table, schema), table


@pytest.mark.parametrize(
    ("params", "least"),
    [
        ({**QUICK, "template": "a bright {}"}, 0.9),
        ({"model": "tiny", "tune": "full", "learning_rate": 3e-3, "epochs": 15.0}, 0.5),
        ({"model": "tiny", "tune": "head", "learning_rate": 3e-2, "epochs": 25.0}, 0.4),
        ({"model": "tiny", "tune": "none"}, 0.0),
    ],
)
def test_classes_are_sentences(params: dict, least: float, tmp_path: Path) -> None:
    """From nothing, tuned, by a linear probe or as it came, classes have shares that add up."""
    if params.get("model"):
        params = {**params, "model": str(tiny_clip())}
    view, _ = classes_view()
    model = Clip().fit(view, None, params, FitContext(seed=0))
    _, held = classes_view(40, seed=5)
    shares = model.predict(held.drop("y"))
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=0, atol=1e-9)
    y = [view.schema.classes.index(label) for label in held["y"]]
    assert (shares.argmax(axis=1) == y).mean() >= least
    model.save(tmp_path)
    np.testing.assert_array_equal(Clip().load(tmp_path).predict(held.drop("y")), shares)


def test_a_zero_shot_answer_is_the_softmax_of_the_cosines() -> None:
    """With `tune: none` a class's share is that of its sentence among all classes' sentences."""
    view, table = classes_view(16)
    params = {"model": str(tiny_clip()), "tune": "none", "template": "a bright {}"}
    model = Clip().fit(view, None, params, FitContext(seed=0))
    cosines = model.image_vectors(table["picture"].to_list()) @ model.caption_vectors(SHOWN).T
    wanted = np.exp(model.factor * cosines)
    wanted /= wanted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict(table.drop("y")), wanted, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_digits_are_named_by_words(data_dir: Callable[[str], Path]) -> None:
    """Trained from nothing on pairs, it names more than nine of ten new digits by class words."""
    import zipfile

    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    with zipfile.ZipFile(data_dir("mnist_png_label_errors") / "mnist_png.zip") as pictures:
        names = sorted(n for n in pictures.namelist() if n.startswith("test/") and "png" in n)
        drawn = np.random.default_rng(0).permutation(len(names))[:2_400]
        table = pl.DataFrame(
            {
                "picture": [pictures.read(names[place]) for place in drawn],
                "caption": [f"a photo of a {words[int(names[p].split('/')[1])]}" for p in drawn],
            },
            schema={"picture": pl.Binary, "caption": pl.String},
        )
    params = {"epochs": 10.0}
    model = Clip().fit(pairs_view(table[:1_900]), None, params, FitContext(seed=0, threads=2))
    assert (model.predict(table[1_900:]) == 1.0).mean() > 0.9
