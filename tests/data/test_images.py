"""Images as a column of a table: from folders, archives, paths and bytes, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import polars as pl
import pytest

from loopline.data.fingerprint import table_digest
from loopline.data.inference import infer_schema
from loopline.data.sources import TableFormat, read_table
from loopline.errors import DataError

pytest.importorskip("PIL", reason="images need the extra `images`")

from tests.data.pictures import picture, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of six pictures."""
    return write_folder(tmp_path / "pictures")


def with_csv(folder: Path, paths: list[str]) -> Path:
    """A table of paths beside the pictures."""
    table = folder / "table.csv"
    rows = [f"{path},{path[0]}" for path in paths]
    table.write_text("\n".join(["photo,kind", *rows]) + "\n")
    return table


def test_a_folder_becomes_bytes_labels_and_names(folder: Path) -> None:
    """Each subfolder is a class; rows stand by file name, and the class is no part of the name."""
    table = read_table(folder)
    assert table.frame.schema == {"image": pl.Binary, "label": pl.String, "file": pl.String}
    assert table.frame["label"].to_list()[:4] == ["a", "b", "a", "b"]
    assert table.frame["file"].to_list()[:3] == ["000.png", "000.png", "001.png"]
    assert table.frame["image"][0] == picture("a", 0)
    assert table.facts.notes == ("12 images in 2 subfolders",)
    assert read_table(folder, format=table.format).frame.equals(table.frame)


def test_a_folder_without_subfolders_has_no_label(folder: Path) -> None:
    """Pictures to be predicted lie in one folder."""
    assert read_table(folder / "a").frame.columns == ["image", "file"]


def test_one_picture_is_a_table_of_one_row(folder: Path) -> None:
    """A single file can be predicted as it is."""
    frame = read_table(folder / "b" / "002.png").frame
    assert frame.rows() == [(picture("b", 2), "002.png")]


def test_deeper_folders_belong_to_their_class(folder: Path) -> None:
    """The first subfolder is the class, whatever lies below; hidden files are no part."""
    deep = folder / "a" / "summer" / "x.PNG"
    deep.parent.mkdir()
    deep.write_bytes(picture("a", 50))
    (folder / "a" / ".hidden.png").write_bytes(b"")
    frame = read_table(folder).frame
    assert frame.height == 13
    assert frame.filter(pl.col("file") == "summer/x.PNG")["label"].to_list() == ["a"]


def test_other_files_are_passed_over_and_told(folder: Path) -> None:
    """What is no image is counted with its kind."""
    (folder / "a" / "notes.txt").write_text("x")
    assert "passed over what is no image: 1 file (.txt)" in read_table(folder).facts.notes


def test_an_archive_gives_the_same_table(folder: Path, tmp_path: Path) -> None:
    """A ZIP file, or a folder inside one, is read like the folder that was packed."""
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, f"train/{path.relative_to(folder)}")
    expected = table_digest(read_table(folder).frame)
    assert table_digest(read_table(archive / "train").frame) == expected
    with pytest.raises(DataError, match=r"pictures.zip/train' as the data"):
        read_table(archive)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    """A file that only calls itself ZIP is told."""
    (tmp_path / "x.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match=r"cannot be read as a ZIP file"):
        read_table(tmp_path / "x.zip")


def test_sides_of_a_split_are_no_classes(folder: Path) -> None:
    """Subfolders called train and test are refused, with what to give instead."""
    for side in ("train", "test"):
        write_folder(folder.parent / "sides" / side)
    with pytest.raises(DataError, match=r"sides of a split.*--test"):
        read_table(folder.parent / "sides")


def test_pictures_beside_subfolders_are_refused(folder: Path) -> None:
    """A picture without a class among classes is a mistake."""
    (folder / "lost.png").write_bytes(picture("a", 9))
    with pytest.raises(DataError, match=r"has 1 images beside its subfolders and 12 in them"):
        read_table(folder)


def test_a_column_of_paths_is_read_as_bytes(folder: Path) -> None:
    """With `images` the column holds what the paths name, so the digest covers the content."""
    table = with_csv(folder, ["a/000.png", "b/001.png"])
    fmt = TableFormat(images=("photo",))
    first = read_table(table, format=fmt)
    assert first.frame["photo"].to_list() == [picture("a", 0), picture("b", 1)]
    again = read_table(table, format=TableFormat.from_dict(first.format.to_dict()))
    assert again.frame.equals(first.frame)
    (folder / "b" / "001.png").write_bytes(picture("b", 77))
    assert table_digest(read_table(table, format=fmt).frame) != table_digest(first.frame)


def test_a_column_of_paths_is_told_where_nothing_asks_for_it(folder: Path) -> None:
    """Without `images` the paths stay text, and a note says how to have the pictures."""
    read = read_table(with_csv(folder, ["a/000.png"]))
    assert read.frame["photo"].dtype == pl.String
    assert any("`images: [photo]` under `data.format`" in note for note in read.facts.notes)


def test_a_missing_path_is_a_missing_cell(folder: Path) -> None:
    """An empty cell names no picture."""
    table = folder / "table.csv"
    table.write_text("photo,kind\na/000.png,a\n,b\n")
    frame = read_table(table, format=TableFormat(images=("photo",))).frame
    assert frame["photo"].is_null().to_list() == [False, True]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a/zzz.png", r"1 path of column 'photo' name no file .*row 2: 'a/zzz.png'"),
        ("../secret.png", r"leave the folder of the data .*row 2: '../secret.png'"),
        ("a/../../secret.png", r"leave the folder of the data"),
        ("/etc/secret.png", r"leave the folder of the data .*row 2: '/etc/secret.png'"),
    ],
)
def test_a_path_that_cannot_be_followed_names_its_row(
    folder: Path, path: str, message: str
) -> None:
    """A path that is not there, or leads out of the data's folder, is told with row and path."""
    (folder.parent / "secret.png").write_bytes(picture("a", 0))
    table = with_csv(folder, ["a/000.png", path])
    with pytest.raises(DataError, match=message):
        read_table(table, format=TableFormat(images=("photo",)))


def test_an_image_column_that_is_not_there_is_told(folder: Path) -> None:
    """`images` must name a column of the table."""
    table = with_csv(folder, ["a/000.png"])
    with pytest.raises(DataError, match=r"has no column 'foto' of images; did you mean 'photo'"):
        read_table(table, format=TableFormat(images=("foto",)))


def test_bytes_in_parquet_are_images(folder: Path) -> None:
    """A column of bytes that begin as image files do has the type image; names are ids."""
    frame = read_table(folder).frame.rename({"image": "shot"})
    path = folder / "table.parquet"
    frame.write_parquet(path)
    schema = infer_schema(read_table(path).frame, target="label")
    assert schema.named("shot").type == "image"
    assert schema.features == ("shot",)
    assert schema.named("file").role == "ignore"  # names stand twice, once a class
    unique = frame.with_columns(file=pl.concat_str("label", pl.lit("/"), "file"))
    assert infer_schema(unique, target="label").named("file").role == "id"


def test_other_bytes_are_no_images() -> None:
    """Bytes of any other kind stay out of the features."""
    frame = pl.DataFrame({"blob": [b"x", b"y", b"z"] * 9, "y": ["a", "b", "a"] * 9})
    assert infer_schema(frame, target="y").named("blob").role == "ignore"
