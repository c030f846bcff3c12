"""Image folders: classes and labels, and what is told of files that cannot be read or do not belong there."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datafiles import cut, is_image, picture
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets as vision

from mnv3lib.data import BrokenFileError, BrokenFilesWarning, SkippedFilesWarning, open_dataset, reading
from mnv3lib.data.folder import Folder
from mnv3lib.data.reading import read_image
from mnv3lib.recipe import Data

pytestmark = pytest.mark.usefixtures("own_cache")


def test_folders_are_classes(animals: Path) -> None:
    train, val = Folder(animals, "train"), Folder(animals, "val")
    assert train.classes == val.classes == ("ant", "cat", "dog")
    assert [label for _, label in train] == [0, 1, 1, 1, 2, 2]
    assert [label for _, label in val] == [1, 2, 2]  # numbered as in train, although val has no ant
    image, label = train[0]
    is_image(image, 40, 60)
    assert type(label) is int
    with Image.open(animals / "train/ant/0.jpg") as expected:
        assert np.array_equal(image.permute(1, 2, 0), np.asarray(expected))
    assert torch.equal(train[-6][0], image)
    with pytest.raises(IndexError, match="index 6 is outside of 6 images"):
        train[6]
    assert train.broken == []


def test_folders_that_are_not_as_expected_are_named(animals: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no folder .*animals/test; .*animals has train, val. Expected: .*<class>"
    ):
        Folder(animals, "test")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere/train"):
        Folder(tmp_path / "nowhere")
    picture(animals / "val" / "fox" / "0.jpg")
    with pytest.raises(ValueError, match=r"animals/val has classes that .*animals/train does not have: fox"):
        Folder(animals, "val")
    (animals / "train" / "gnu").mkdir()
    with pytest.raises(FileNotFoundError, match=r"animals/train has no image of gnu. Expected: .*<class>"):
        Folder(animals, "train")
    flat = tmp_path / "flat"
    picture(flat / "val" / "0.jpg")  # ImageNet's validation images as they come
    with pytest.raises(FileNotFoundError, match=r"class folder in .*flat/val.*Expected: .*<class>"):
        Folder(flat, "val")
    (tmp_path / "bare" / "train" / "a").mkdir(parents=True)
    (tmp_path / "bare" / "val" / "a").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="bare/val: there is no image in it"):
        Folder(tmp_path / "bare", "val")


# Files that cannot be read


def test_a_file_that_cannot_be_read_is_named(animals: Path) -> None:
    dataset = Folder(animals)
    damaged, text, gone = (Path(dataset.paths[i]) for i in (1, 2, 3))
    cut(damaged)
    text.write_text("<html>404</html>")
    gone.unlink()
    for index, path, reason in (
        (1, damaged, "truncated"),
        (2, text, "cannot be identified as an image"),
        (3, gone, "No such file"),
    ):
        with pytest.raises(BrokenFileError, match=f"animals/train: {path}: .*{reason}.* skip_broken=True") as raised:
            dataset[index]
        assert raised.value.path == str(path)
        assert reason in raised.value.reason
        assert raised.value.__cause__ is not None
    is_image(dataset[0][0], 40, 60)


def test_a_worker_passes_the_name_on(animals: Path) -> None:
    dataset = Folder(animals)
    cut(Path(dataset.paths[1]))
    with pytest.raises(BrokenFileError) as raised:
        list(DataLoader(dataset, batch_size=2, num_workers=1))
    with pytest.raises(BrokenFileError) as alone:
        dataset[1]
    assert str(raised.value) == str(alone.value), "without the worker's traceback"
    error = pickle.loads(pickle.dumps(BrokenFileError("what", "where", "why")))
    assert str(error) == "what"


def test_skipping_leaves_out_and_reports(animals: Path) -> None:
    paths = Folder(animals).paths
    cut(Path(paths[1]))
    Path(paths[4]).write_text("no image")
    message = (
        rf"animals/train: left out what is broken \(2\), kept 4 image\(s\): {paths[1]}: .*truncated.*; {paths[4]}: "
    )
    with pytest.warns(BrokenFilesWarning, match=message):
        dataset = Folder(animals, skip_broken=True)
    assert [path for path, _ in dataset.broken] == [paths[1], paths[4]]
    assert "truncated" in dataset.broken[0][1]
    assert len(dataset) == len(list(dataset)) == 4
    assert [label for _, label in dataset] == [0, 1, 1, 2]
    for index, item in enumerate((0, 2, 3, 5)):
        assert torch.equal(dataset[index][0], read_image(paths[item]))
    assert torch.equal(dataset[-1][0], read_image(paths[5]))
    with pytest.raises(IndexError, match="outside of 4 images"):
        dataset[4]
    labels = torch.cat([labels for _, labels in DataLoader(dataset, batch_size=3, num_workers=2)])
    assert labels.tolist() == [0, 1, 1, 2]


def test_skipping_reads_everything_once_until_a_file_changes(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [Path(path) for path in Folder(animals).paths]
    whole = paths[1].read_bytes()
    cut(paths[1])
    scans = []
    scan = Folder._scan
    monkeypatch.setattr(Folder, "_scan", lambda self: scans.append(1) or scan(self))
    for _ in range(2):
        with pytest.warns(BrokenFilesWarning, match=r"broken \(1\), kept 5 "):
            assert len(Folder(animals, skip_broken=True)) == 5
    assert len(scans) == 1
    paths[1].write_bytes(whole)
    assert len(Folder(animals, skip_broken=True)) == 6  # and no warning
    paths[2].unlink()  # not listed any more
    assert len(Folder(animals, skip_broken=True)) == 5
    assert len(scans) == 3


def test_many_broken_files_are_counted_and_none_left_is_an_error(animals: Path) -> None:
    paths = Folder(animals).paths
    for path in paths[:5]:
        cut(Path(path))
    with pytest.warns(BrokenFilesWarning, match=rf"broken \(5\), kept 1 .*{paths[2]}: [^;]*; and 2 more$") as told:
        Folder(animals, skip_broken=True)
    assert told[0].filename == __file__, "the line is the caller's"
    cut(Path(paths[5]))
    with (
        pytest.warns(BrokenFilesWarning, match=r"broken \(6\), kept 0 "),
        pytest.raises(FileNotFoundError, match="there is no image in it that can be read"),
    ):
        Folder(animals, skip_broken=True)


# What does not belong there


def test_samples_are_those_of_torchvision_in_their_order(animals: Path) -> None:
    """A run that goes on sees the images that it would have seen."""
    for place in (
        "train/cat/b/1.JPG",
        "train/cat/b a/1.Png",
        "train/cat/b/c/1.webp",
        "train/cat/A.jpeg",
        "train/dog/é.TIF",
    ):
        picture(animals / "train" / place)
    expected = vision.ImageFolder(animals / "train")
    dataset = Folder(animals)
    assert [*zip(dataset.paths, dataset.labels, strict=True)] == expected.samples
    assert list(dataset.classes) == expected.classes
    assert dataset.skipped == []


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    "name",
    [".ipynb_checkpoints", ".git", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"],
)
def test_hidden_folders_and_those_of_systems_are_no_classes(animals: Path, split: str, name: str) -> None:
    before = Folder(animals, split)
    for inner in (name, f"cat/{name}", f"cat/deep/{name}"):
        picture(animals / split / inner / "0-checkpoint.jpg")
    with pytest.warns(
        SkippedFilesWarning, match=rf"animals/{split}: left out what does not belong to it \(3\): .*{re.escape(name)}"
    ) as told:
        dataset = Folder(animals, split)
    assert len(told) == 1
    assert {path for path, _ in dataset.skipped} == {
        str(animals / split / inner) for inner in (name, f"cat/{name}", f"cat/deep/{name}")
    }
    assert (dataset.classes, dataset.labels, dataset.paths) == (before.classes, before.labels, before.paths)
    assert dataset.fingerprint == before.fingerprint


def test_a_hidden_folder_in_train_shifts_no_label_of_val(animals: Path) -> None:
    picture(animals / "train" / ".ipynb_checkpoints" / "0.jpg")
    assert Folder(animals, "val").labels == [1, 2, 2]


def test_hidden_images_are_left_out_and_told(animals: Path) -> None:
    """MacOS writes ._0.jpg beside 0.jpg on foreign disks; there is no image in it."""
    (animals / "train" / "cat" / "._0.jpg").write_bytes(b"\0\5\x16\7")
    with pytest.warns(SkippedFilesWarning, match=r"cat/\._0\.jpg: it is hidden"):
        dataset = Folder(animals)
    assert dataset.skipped == [(str(animals / "train/cat/._0.jpg"), "it is hidden")]
    assert len(list(dataset)) == 6


def test_images_in_no_class_are_left_out_and_told(animals: Path) -> None:
    picture(animals / "train" / "stray.jpg")
    with pytest.warns(SkippedFilesWarning, match=r"train/stray\.jpg: it is in no class folder"):
        assert len(Folder(animals)) == 6


def test_files_that_are_no_images_by_their_names_are_told(animals: Path) -> None:
    for place in (
        "train/cat/0.heic",
        "train/cat/labels.txt",
        "train/readme.md",
        "train/cat/0.jpg.part",
        "train/cat/noname",
    ):
        (animals / place).write_text("x")
    with pytest.warns(SkippedFilesWarning, match=r"belong to it \(5\): .*; and 2 more$"):
        dataset = Folder(animals)
    assert {Path(path).name for path, _ in dataset.skipped} == {
        "0.heic",
        "labels.txt",
        "readme.md",
        "0.jpg.part",
        "noname",
    }
    assert {reason for _, reason in dataset.skipped} == {
        "its name is not that of an image (.jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff, .webp)"
    }
    assert len(list(dataset)) == 6


def test_what_systems_leave_in_every_folder_is_not_worth_a_word(animals: Path) -> None:
    for folder in ("train", "train/cat", "val/dog"):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".gitkeep"):
            (animals / folder / name).write_text("x")
    for split in ("train", "val"):
        assert Folder(animals, split).skipped == []


@pytest.mark.parametrize(
    ("link", "to"),
    [
        ("cat/self", "cat"),
        ("cat/up", "."),
        ("cat/further", ".."),
        ("cat/other", "dog"),
        ("cat/deep/loop", "cat/deep"),
        ("cat/again", "cat/deep"),
    ],
)
def test_links_to_folders_of_the_data_set_double_no_image(animals: Path, link: str, to: str) -> None:
    picture(animals / "train/cat/deep/9.jpg")
    before = Folder(animals)
    (animals / "train" / link).symlink_to((animals / "train" / to).resolve(), target_is_directory=True)
    with pytest.warns(SkippedFilesWarning, match=f"train/{link}: it is a link to .*, which is in the data set already"):
        dataset = Folder(animals)
    assert (dataset.paths, dataset.labels) == (before.paths, before.labels)
    assert [path for path, _ in dataset.skipped] == [str(animals / "train" / link)]


def test_links_to_other_folders_and_to_files_are_followed(animals: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    picture(elsewhere / "fox" / "0.jpg")
    picture(elsewhere / "more" / "1.jpg")
    (animals / "train" / "fox").symlink_to(elsewhere / "fox", target_is_directory=True)
    (animals / "train" / "cat" / "more").symlink_to(elsewhere / "more", target_is_directory=True)
    (animals / "train" / "cat" / "file.jpg").symlink_to(elsewhere / "fox" / "0.jpg")
    dataset = Folder(animals)
    assert dataset.classes == ("ant", "cat", "dog", "fox")
    assert dataset.labels == [0, 1, 1, 1, 1, 1, 2, 2, 3]
    assert len(list(dataset)) == 9
    (elsewhere / "fox" / "loop").symlink_to(elsewhere / "fox", target_is_directory=True)
    (animals / "train" / "dog" / "more").symlink_to(elsewhere / "more", target_is_directory=True)
    with pytest.warns(SkippedFilesWarning, match=r"belong to it \(2\)"):
        again = Folder(animals)
    assert again.paths == dataset.paths, "neither round a loop nor under a second class"


def test_two_classes_are_two_folders(animals: Path) -> None:
    (animals / "train" / "kitten").symlink_to(animals / "train" / "cat", target_is_directory=True)
    with pytest.raises(ValueError, match=r"folders '(cat|kitten)' and '(cat|kitten)' in .*/train hold the same images"):
        Folder(animals)
    (animals / "train" / "kitten").unlink()
    picture(animals / "train" / "cat" / "young" / "0.jpg")
    (animals / "train" / "kitten").symlink_to(animals / "train" / "cat" / "young", target_is_directory=True)
    with pytest.raises(ValueError, match=r"folders 'kitten' and 'cat' in .*/train hold the same images, by a link"):
        Folder(animals)


def test_names_that_are_not_utf_8_are_read_and_told(animals: Path) -> None:
    """Archives made on other systems have them; Python has them as lone surrogates."""
    plain = Folder(animals).paths[1]
    name = os.fsdecode(b"caf\xe9.jpg")
    path = animals / "train" / "cat" / name
    path.write_bytes(Path(plain).read_bytes())
    assert len(Folder(animals, skip_broken=True)) == len(list(Folder(animals))) == 7
    assert Folder(animals).fingerprint != Folder(animals, "val").fingerprint
    cut(path)
    for _ in range(2):  # found, and remembered
        with pytest.warns(BrokenFilesWarning, match=r"broken \(1\), kept 6 "):
            dataset = Folder(animals, skip_broken=True)
        assert [os.fsencode(path) for path, _ in dataset.broken] == [os.fsencode(animals) + b"/train/cat/caf\xe9.jpg"]
    with pytest.raises(BrokenFileError, match=r"caf.*truncated"):
        list(Folder(animals))


def test_names_of_classes_are_utf_8(animals: Path) -> None:
    (animals / "train" / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(ValueError, match=r"class folder '.*caf\\udce9' must be UTF-8: rename it"):
        Folder(animals)


def test_photographs_are_seen_upright_unless_they_are_published(animals: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(animals / "train" / "ant" / "0.jpg", exif=exif)
    is_image(Folder(animals)[0][0], 8, 6)
    is_image(Folder(animals, upright=False)[0][0], 6, 8)
    is_image(open_dataset(Data(name="folder", root=str(animals)))[0][0], 8, 6)
    is_image(open_dataset(Data(name="imagenet", root=str(animals)))[0][0], 6, 8)
    is_image(open_dataset(Data(name="imagenet", root=str(animals), options={"upright": True}))[0][0], 8, 6)
    with pytest.raises(TypeError, match=r"recipe.data.options.upright must be True or False, got 'yes'"):
        open_dataset(Data(name="folder", root=str(animals), options={"upright": "yes"}))


# What a run keeps of its data


def test_the_fingerprint_is_that_of_names_classes_and_order(animals: Path, tmp_path: Path) -> None:
    first = Folder(animals).fingerprint
    assert re.fullmatch("[0-9a-f]{64}", first)
    moved = animals.rename(tmp_path / "moved")
    assert Folder(moved).fingerprint == first
    seen = {first, Folder(moved, "val").fingerprint}
    picture(moved / "train" / "cat" / "9.jpg")
    seen.add(Folder(moved).fingerprint)
    (moved / "train" / "cat" / "9.jpg").rename(moved / "train" / "cat" / "8.jpg")
    seen.add(Folder(moved).fingerprint)
    (moved / "train" / "cat" / "8.jpg").unlink()
    assert Folder(moved).fingerprint == first
    (moved / "train" / "dog").rename(moved / "train" / "ape")
    seen.add(Folder(moved).fingerprint)
    cut(moved / "train" / "ape" / "0.jpg")
    with pytest.warns(BrokenFilesWarning):
        seen.add(Folder(moved, skip_broken=True).fingerprint)
    assert len(seen) == 6


@pytest.mark.parametrize("cache", [3, True, ["a"], 0])
def test_a_cache_is_a_folder(animals: Path, cache: Any) -> None:
    options = {"cache": cache}
    for data in (Data(name="folder", root=str(animals), options=options), Data(options=options)):
        with pytest.raises(TypeError, match=r"recipe.data.options.cache must be a folder, None .* False for none, got"):
            open_dataset(data)
    with pytest.raises(ValueError, match="cache must be a folder"):
        Folder(animals, cache="")


def test_without_a_cache_nothing_is_kept(animals: Path, own_cache: Path) -> None:
    cut(animals / "train" / "cat" / "0.jpg")
    for _ in range(2):
        with pytest.warns(BrokenFilesWarning, match=r"kept 5 "):
            Folder(animals, skip_broken=True, cache=False)
    assert not own_cache.exists()
    with pytest.warns(BrokenFilesWarning, match=r"kept 5 "):
        Folder(animals, skip_broken=True, cache=animals.parent / "named")
    assert list(animals.parent.glob("named/readable-*.json"))
    assert not own_cache.exists()


@pytest.mark.parametrize("value", [1, "yes", None])
def test_skip_broken_is_true_or_false(animals: Path, value: Any) -> None:
    with pytest.raises(TypeError, match=f"skip_broken must be True or False, got {value!r}"):
        Folder(animals, skip_broken=value)


@pytest.mark.parametrize("change", ["size", "time", "name", "folder"])
def test_findings_are_asked_for_anew_when_a_file_changes(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    scans = []
    scan = Folder._scan
    monkeypatch.setattr(Folder, "_scan", lambda self: scans.append(1) or scan(self))
    path = animals / "train" / "cat" / "0.jpg"
    before = path.stat()
    assert len(Folder(animals, skip_broken=True)) == 6
    if change == "size":
        path.write_bytes(path.read_bytes() + b"more")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "time":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000))
    elif change == "name":
        path = path.with_name("2.jpg")
        path.rename(path.with_name("3.jpg"))  # in the same place of the order
    else:
        animals = animals.rename(tmp_path / "moved")
    assert len(Folder(animals, skip_broken=True)) == 6
    assert len(scans) == 2
    assert len(Folder(animals, skip_broken=True)) == 6
    assert len(scans) == 2


def test_findings_are_asked_for_anew_by_another_version_of_the_reader(
    animals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(Folder(animals, skip_broken=True)) == 6
    monkeypatch.setattr(reading, "VERSION", reading.VERSION + 1)
    monkeypatch.setattr(Folder, "_scan", lambda self: [(0, "a", "new")])
    with pytest.warns(BrokenFilesWarning, match="a: new"):
        assert len(Folder(animals, skip_broken=True)) == 5
