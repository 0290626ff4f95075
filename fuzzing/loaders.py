"""Data sets, and pictures to predict: damaged, missing, mismatched, far too large."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing import files
from fuzzing.case import Case, Expected, pick
from fuzzing.files import OTHERS_FILE, Tree, encoded, palette_mask
from tf_levelset.datasets import (
    Augmentation,
    evaluation_dataset,
    image_dataset,
    load_dataset,
    training_dataset,
)
from tf_levelset.datasets.cityscapes import CLASS_IDS
from tf_levelset.datasets.cityscapes import CLASSES as CITYSCAPES_CLASSES
from tf_levelset.datasets.files.faults import error_of
from tf_levelset.datasets.files.labels import read_index_labels
from tf_levelset.datasets.pascal_context import CLASSES as CONTEXT_CLASSES
from tf_levelset.datasets.verification import load_verified
from tf_levelset.datasets.voc import CLASSES as VOC_CLASSES
from tf_levelset.datasets.voc import voc_palette
from tf_levelset.inference.inputs import find_inputs
from tf_levelset.inference.prediction import Outputs, predict

VOID = 255


@dataclass
class Sample:
    """A picture and its labels, and the paths of their files."""

    image: np.ndarray
    labels: np.ndarray
    image_path: str
    label_path: str = ""


@dataclass
class Problem:
    """A tree of files, how it is read, and what is in it."""

    kind: str
    tree: Tree
    samples: list[Sample]
    num_classes: int
    split: str = "train"
    options: dict[str, Any] = field(default_factory=dict)
    lists: list[str] = field(default_factory=list)
    """Paths of files of text."""
    verified: bool = True
    exact: bool = True
    """Whether an answer must be what was written."""
    changes: list[str] = field(default_factory=list)

    def described(self) -> dict[str, Any]:
        """Returns JSON's types."""
        sizes = {n: len(content) for n, content in self.tree.files.items()}
        return {
            "kind": self.kind,
            "split": self.split,
            "options": repr(self.options),
            "verified": self.verified,
            "files": str(sizes)[:600],
            "links": self.tree.links,
            "changes": self.changes,
        }


# --- Sound trees ---


def sound(rng: np.random.Generator) -> Problem:
    """Makes a small data set of one of the layouts, or pictures to predict."""
    problem = pick(rng, _KINDS)(rng)
    problem.verified = bool(rng.random() < 0.6)
    return problem


def _arrays(
    rng: np.random.Generator, classes: int, void: bool = True
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two or three pictures and their labels."""
    pairs = []
    for _ in range(int(rng.integers(2, 4))):
        size = tuple(rng.integers(1, 25, 2).tolist())
        labels = rng.integers(0, classes, size)
        if void:
            labels[rng.random(size) < 0.1] = VOID
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        pairs.append((image, labels.astype(np.uint8)))
    return pairs


def _add(
    problem: Problem, image: np.ndarray, labels: np.ndarray, *paths: str, mask: bytes
) -> None:
    """Adds a sample: a PNG or JPEG, by its suffix, and a label file."""
    image_path, label_path = paths
    format = "JPEG" if image_path.endswith((".jpg", ".jpeg")) else "PNG"
    format = "BMP" if image_path.endswith(".bmp") else format
    problem.tree.files[image_path] = encoded(image, format)
    if label_path:
        problem.tree.files[label_path] = mask
    problem.samples.append(Sample(image, labels, image_path, label_path))


def _folder(rng: np.random.Generator) -> Problem:
    classes = int(rng.integers(2, 5))
    problem = Problem("folder", Tree(), [], classes, lists=["classes.txt"])
    kind = pick(rng, ["index", "ids", "colors"])
    colors = rng.permutation(256)[: 3 * classes].reshape(-1, 3)
    lines = []
    for index in range(classes):
        value = {
            "index": "",
            "ids": f" {10 * index}",
            "colors": " " + " ".join(map(str, colors[index].tolist())),
        }[kind]
        lines.append(f"class{index}{value}\n")
    problem.tree.files["classes.txt"] = "".join(lines).encode()
    names = []
    for number, (image, labels) in enumerate(_arrays(rng, classes, kind != "colors")):
        if kind == "colors":
            mask = encoded(colors[labels].astype(np.uint8))
        else:
            factor = 10 if kind == "ids" else 1
            ids = np.where(labels == VOID, VOID, factor * labels).astype(np.uint8)
            mask = pick(rng, [palette_mask(ids, colors), encoded(ids)])
        name = f"{number}"
        suffix = pick(rng, [".png", ".png", ".jpg", ".bmp"])
        names.append(name)
        _add(
            problem,
            image,
            labels,
            f"images/{name}{suffix}",
            f"masks/{name}.png",
            mask=mask,
        )
    problem.split = "train"
    problem.tree.files["train.txt"] = "\n".join(names).encode()
    problem.lists.append("train.txt")
    return problem


def _camvid(rng: np.random.Generator) -> Problem:
    problem = Problem("camvid", Tree(), [], 11, lists=["train.txt"])
    lines = []
    for number, (image, labels) in enumerate(_arrays(rng, 11)):
        name = f"0006R0_{number}.png"
        ids = np.where(labels == VOID, 11, labels).astype(np.uint8)
        _add(
            problem,
            image,
            labels,
            f"train/{name}",
            f"trainannot/{name}",
            mask=encoded(ids),
        )
        lines.append(f"/SegNet/CamVid/train/{name} /SegNet/CamVid/trainannot/{name}")
    problem.tree.files["train.txt"] = "\n".join(lines).encode()
    return problem


def _voc(rng: np.random.Generator) -> Problem:
    split = pick(rng, ["train", "trainaug", "test"])
    problem = Problem("voc", Tree(), [], len(VOC_CLASSES), split)
    lists = "ImageSets/Segmentation"
    names = []
    for number, (image, labels) in enumerate(_arrays(rng, len(VOC_CLASSES))):
        name = f"2007_{number:06}"
        names.append(name)
        label_path, mask = f"SegmentationClass/{name}.png", b""
        if split == "test":
            label_path, labels = "", np.full_like(labels, VOID)
        elif split == "trainaug" and number:
            label_path, mask = f"sbd/cls/{name}.mat", files.sbd(labels)
        elif rng.random() < 0.5:
            mask = palette_mask(labels, voc_palette(256))
        else:
            mask = encoded(voc_palette(256)[labels])
        _add(problem, image, labels, f"JPEGImages/{name}.jpg", label_path, mask=mask)
    if split != "trainaug":
        problem.tree.files[f"{lists}/{split}.txt"] = "\n".join(names).encode()
        problem.lists = [f"{lists}/{split}.txt"]
    if split == "trainaug":
        problem.tree.files[f"{lists}/train.txt"] = names[0].encode()
        problem.tree.files[f"{lists}/val.txt"] = b""
        problem.tree.files["sbd/train.txt"] = "\n".join(names[1:]).encode()
        problem.tree.files["sbd/val.txt"] = b""
        problem.lists = [f"{lists}/train.txt", "sbd/train.txt"]
        problem.options["sbd_dir"] = "sbd"
    return problem


def _pascal_context(rng: np.random.Generator) -> Problem:
    classes = len(CONTEXT_CLASSES)
    problem = Problem("pascal_context", Tree(), [], classes)
    problem.lists = ["ImageSets/Main/train.txt"]
    ids = np.array(list(CONTEXT_CLASSES.values()))
    names = []
    for number, (image, labels) in enumerate(_arrays(rng, classes, void=False)):
        name = f"2008_{number:06}"
        names.append(name)
        mask = files.context(ids[labels])
        _add(
            problem,
            image,
            labels,
            f"JPEGImages/{name}.jpg",
            f"trainval/{name}.mat",
            mask=mask,
        )
    problem.tree.files["ImageSets/Main/train.txt"] = "\n".join(names).encode()
    return problem


def _cityscapes(rng: np.random.Generator) -> Problem:
    problem = Problem("cityscapes", Tree(), [], len(CITYSCAPES_CLASSES))
    ids = np.zeros(256, np.uint8)
    ids[: len(CLASS_IDS)] = CLASS_IDS
    for number, (image, labels) in enumerate(_arrays(rng, len(CLASS_IDS))):
        name = f"train/aachen/aachen_000000_{number:06}"
        _add(
            problem,
            image,
            labels,
            f"leftImg8bit/{name}_leftImg8bit.png",
            f"gtFine/{name}_gtFine_labelIds.png",
            mask=encoded(ids[labels]),
        )
    return problem


def _pictures(rng: np.random.Generator) -> Problem:
    """Pictures for `predict`, with a video now and then."""
    problem = Problem("predict", Tree(), [], 2)
    for number, (image, labels) in enumerate(_arrays(rng, 2)):
        suffix = pick(rng, [".png", ".jpg", ".bmp"])
        _add(
            problem, image, np.zeros_like(labels), f"in/{number}{suffix}", "", mask=b""
        )
    if rng.random() < 0.3:
        suffix = pick(rng, [".avi", ".mp4"])
        problem.tree.files[f"in/video{suffix}"] = files.video(suffix)
    return problem


_KINDS: tuple[Callable[[np.random.Generator], Problem], ...] = (
    _folder,
    _folder,
    _camvid,
    _voc,
    _pascal_context,
    _cityscapes,
    _pictures,
)


# --- Unsound ones ---

Change = Callable[[np.random.Generator, Problem], Expected]


def _damaged(rng: np.random.Generator, problem: Problem) -> Expected:
    """Damages one of the files, a list too."""
    names = sorted(problem.tree.files)
    name = pick(rng, names)
    damage = pick(rng, files.DAMAGES)
    before = problem.tree.files[name]
    problem.tree.files[name] = damage(rng, before or b"\n")
    problem.changes.append(f"{damage.__name__} {name}")
    # Checksums tell of every flipped bit of a PNG; other formats have none.
    problem.exact = name.endswith(".png") and damage is not files.spliced
    return "answer" if problem.tree.files[name] == before else "either"


def _replace(problem: Problem, name: str, content: bytes, what: str) -> None:
    problem.tree.files[name] = content
    problem.changes.append(f"{what} {name}")


def _picture_of_another_mode(rng: np.random.Generator, problem: Problem) -> Expected:
    sample = pick(rng, problem.samples)
    mode = pick(rng, ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "I;16", "F"])
    format = {"CMYK": "JPEG", "F": "TIFF", "PA": "TIFF"}.get(mode, "PNG")
    if mode == "I;16":
        content = encoded(sample.image[..., 0].astype(np.uint16) * 257)
    else:
        content = encoded(sample.image, format, mode)
    _replace(problem, sample.image_path, content, f"{mode} as")
    problem.exact = False
    return "either"


def _labels_of_another_mode(rng: np.random.Generator, problem: Problem) -> Expected:
    sample = pick(rng, problem.samples)
    if not sample.label_path.endswith(".png"):
        return _damaged(rng, problem)
    mode = pick(rng, ["1", "LA", "RGB", "RGBA", "CMYK", "I;16", "F"])
    format = {"CMYK": "JPEG", "F": "TIFF"}.get(mode, "PNG")
    if mode == "I;16":
        content = encoded(sample.labels.astype(np.uint16))
    else:
        content = encoded(sample.labels, format, mode)
    _replace(problem, sample.label_path, content, f"{mode} as")
    problem.exact = False
    return "either"


def _other_size(rng: np.random.Generator, problem: Problem) -> Expected:
    sample = pick(rng, problem.samples)
    if not sample.label_path:
        return _damaged(rng, problem)
    image = np.concatenate([sample.image, sample.image[:1]])
    format = "PNG" if sample.image_path.endswith(".png") else "JPEG"
    _replace(problem, sample.image_path, encoded(image, format), "a larger")
    return "error"


def _foreign_ids(rng: np.random.Generator, problem: Problem) -> Expected:
    sample = pick(rng, problem.samples)
    path = sample.label_path
    ids = sample.labels.astype(np.int64)
    ids.flat[rng.integers(ids.size)] = pick(rng, [100, 201, 254])
    if path.endswith(".png"):
        _replace(problem, path, encoded(ids.astype(np.uint8)), "foreign ids in")
        return "either" if problem.kind == "folder" else "error"
    if path.endswith(".mat"):
        ids.flat[0] = pick(rng, [460, 1000, 65535])
        content = pick(
            rng,
            [
                files.context(ids),
                files.mat(LabelMap=ids.astype(np.float64)),
                files.mat(LabelMap="text"),
                files.mat(LabelMap=np.zeros((0, 0), np.uint8)),
                files.mat(LabelMap=np.zeros((2, 2, 2), np.uint8)),
                files.mat(GTcls={"Segmentation": ids.astype(np.float64)}),
                files.mat(GTcls={"Segmentation": "text"}),
                files.mat(GTcls={"Other": 1}),
                files.mat(GTcls=3.0),
                files.mat(GTcls=np.zeros((2, 2), dtype=[("Segmentation", "O")])),
                files.mat(Other=ids),
            ],
        )
        _replace(problem, path, content, "odd variables in")
        return "error"
    return _damaged(rng, problem)


def _missing(rng: np.random.Generator, problem: Problem) -> Expected:
    names = [name for name in sorted(problem.tree.files) if not name.startswith("in/")]
    if not names:
        return _damaged(rng, problem)
    name = pick(rng, names)
    problem.changes.append(f"without {name}")
    del problem.tree.files[name]
    problem.exact = name != "train.txt"
    # A folder without lists makes its own.
    return "either" if name == "train.txt" else "error"


def _linked(rng: np.random.Generator, problem: Problem) -> Expected:
    """Puts a link in the place of a file: to a copy outside, to nothing, to itself."""
    name = pick(rng, sorted(problem.tree.files))
    content = problem.tree.files.pop(name)
    targets = {
        "outside": "",
        "others": OTHERS_FILE,
        "nothing": "/nowhere/at/all",
        "itself": Path(name).name,
        "folder": "/",
        "device": "/dev/zero",
        "pipe": "",
    }
    kind = pick(rng, sorted(targets))
    problem.changes.append(f"{name} is a link, {kind}")
    if kind == "outside":
        depth = "../" * (name.count("/") + 1)
        problem.tree.files[f"../outside/{Path(name).name}"] = content
        problem.tree.links[name] = f"{depth}outside/{Path(name).name}"
        return "answer"
    problem.tree.links[name] = targets[kind]
    problem.exact = False
    return "either"


def _odd_list(rng: np.random.Generator, problem: Problem) -> Expected:
    if not problem.lists:
        return _damaged(rng, problem)
    name = pick(rng, problem.lists)
    lines = [
        "../../../etc/passwd",
        "/etc/passwd",
        "a" * 5000,
        "name\0name",
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        "one two three four five",
        "x 1 2",
        "x 300",
        "x -1",
        "x ٣",
        "\N{ZERO WIDTH SPACE}",
        "x 99999999999999999999999",
        "x 1 2 3 4",
    ]
    extra = pick(
        rng, [*(line.encode() for line in lines), b"\xff\xfe\x00", b"\xc3\x28"]
    )
    content = problem.tree.files[name]
    content = pick(rng, [content + b"\n" + extra, extra, extra + b"\n" + content])
    _replace(problem, name, content, f"{extra[:30]!r} in")
    problem.exact = False
    return "either"


def _too_large(rng: np.random.Generator, problem: Problem) -> Expected:
    """A picture or labels of hundreds of millions of pixels, or so its header says."""
    sample = pick(rng, problem.samples)
    path = pick(rng, [sample.image_path, sample.label_path or sample.image_path])
    if path.endswith(".mat"):
        name = "GTcls" if problem.kind == "voc" else "LabelMap"
        _replace(problem, path, files.mat_bomb(name, 2**15), "a bomb as")
        return "error"
    if rng.random() < 0.3:
        count = pick(rng, [2**20, 2**28])
        content = encoded(sample.image if path == sample.image_path else sample.labels)
        _replace(problem, path, files.png_text_bomb(content, count), "a text bomb as")
        problem.exact = False
        return "either"
    side = pick(rng, [13400, 20000, 65535, 2**31 - 1])
    kinds = ["PNG", "lie", "GIF", "frames", "BMP", "JPEG", "TIFF"]
    kind = pick(rng, kinds)
    image = np.zeros((4, 5, 3), np.uint8)
    content = {
        "PNG": lambda: files.png_bomb(13400, 13400, 1, True),
        "lie": lambda: files.png_bomb(side, side, 3, False),
        "GIF": lambda: files.with_size(encoded(image, "GIF"), side, side),
        "frames": lambda: files.gif_bomb(3000, 3000, 2000),
        "BMP": lambda: files.with_size(encoded(image, "BMP"), side, side),
        "JPEG": lambda: files.with_size(encoded(image, "JPEG"), 65500, 65500),
        "TIFF": lambda: files.tiff_bomb(13400, 13400),
    }[kind]()
    _replace(problem, path, content, f"a bomb, {kind} {side}, as")
    problem.exact = False
    return "error"


def _another_header(rng: np.random.Generator, problem: Problem) -> Expected:
    """A header that tells another size than the picture has."""
    sample = pick(rng, problem.samples)
    names = [sample.image_path, sample.label_path]
    name = pick(rng, [n for n in names if n.endswith((".png", ".jpg", ".bmp"))])
    size = (int(n) for n in rng.choice([0, 1, 3, 30, 1000, 5000], 2))
    content = files.with_size(problem.tree.files[name], *size)
    _replace(problem, name, content, "another header in")
    problem.exact = False
    return "either"


def _odd_argument(rng: np.random.Generator, problem: Problem) -> Expected:
    if problem.kind == "predict":
        return _damaged(rng, problem)
    if rng.random() < 0.4:
        problem.split = pick(rng, ["", "nothing", "../train", "/etc/passwd", "train\0"])
        return "error"
    options: dict[str, tuple[Any, ...]] = {
        "unknown": (1,),
        "val_fraction": (0, 1, -1, "a", None, float("nan")),
        "classes": ("nothing.txt", [], ["a"], ["a", "a"], {"a": 1}, {"a": "b", "c": 1}),
        "images": ("nowhere", "../..", 3),
        "seed": ("a", None),
        "list_file": ("nowhere", "/", 3),
        "background": ("a",),
        "fold": ("nothing", 3),
        "labels": ("nothing", None),
        "sbd_dir": ("nowhere", 3),
    }
    name = pick(rng, sorted(options))
    value = pick(rng, options[name])
    problem.options[name] = value
    problem.changes.append(f"{name}={value!r}")
    problem.exact = False
    return "either"


CHANGES: tuple[Change, ...] = (
    _damaged,
    _damaged,
    _damaged,
    _damaged,
    _picture_of_another_mode,
    _labels_of_another_mode,
    _other_size,
    _foreign_ids,
    _missing,
    _linked,
    _odd_list,
    _too_large,
    _another_header,
    _odd_argument,
)


# --- Cases ---

Pairs = list[tuple[np.ndarray, np.ndarray]]


def make(rng: np.random.Generator) -> Case:
    """Makes a case: one in six is sound."""
    problem = sound(rng)
    expected: Expected = "answer"
    if rng.random() < 5 / 6:
        change = pick(rng, CHANGES)
        expected = change(rng, problem)
        problem.changes.insert(0, change.__name__.strip("_"))
    return Case(
        problem.described(),
        expected,
        lambda folder: run(problem, folder),
        lambda pairs: check(problem, pairs),
    )


def run(problem: Problem, folder: Path) -> Pairs:
    """Reads all samples, as training or prediction would."""
    root = folder / "data"
    root.mkdir()
    problem.tree.write(root)
    if problem.kind == "predict":
        return _predicted(folder, root / "in")
    options = dict(problem.options)
    if options.get("sbd_dir") == "sbd":
        options["sbd_dir"] = str(root / "sbd")
    if problem.verified:
        verified = load_verified(problem.kind, [problem.split], root, options)
        source = verified.sources[0]
    else:
        source = load_dataset(problem.kind, problem.split, root, **options)
    if not source.has_labels:
        images = list(image_dataset(source).as_numpy_iterator())
        return [(image, np.full(image.shape[:2], VOID)) for image in images]
    pairs = list(evaluation_dataset(source).as_numpy_iterator())
    batches = training_dataset(
        source,
        batch_size=2,
        seed=0,
        num_steps=1,
        augmentation=Augmentation(scale=(0.5, 1.5), crop=(9, 9), flip=True),
    )
    for images, labels in batches.as_numpy_iterator():
        assert images.shape == (2, 9, 9, 3)
        assert np.isfinite(images).all()
        _check_labels(labels, source.num_classes)
    return pairs


def _predicted(folder: Path, inputs: Path) -> Pairs:
    """Predicts pictures and videos by their brightness; returns sizes of the masks."""

    def predictor(image: np.ndarray) -> np.ndarray:
        bright = image.astype(np.float32).mean(-1) / 255
        return np.stack([1 - bright, bright], axis=-1)

    outputs = Outputs(folder / "out", np.array([[0, 0, 0], [255, 0, 0]]), True, True)
    found = find_inputs([inputs])
    faults = predict(predictor, found, outputs)
    if faults:
        raise error_of("predict", faults)
    pairs = []
    for item in found:
        if not item.is_video:
            mask = read_index_labels(str(outputs.mask(item.name)))
            pairs.append((np.zeros((*mask.shape, 3), np.uint8), 0 * mask))
    return pairs


def _check_labels(labels: np.ndarray, num_classes: int) -> None:
    known = (labels >= 0) & (labels < num_classes) | (labels == VOID)
    assert known.all(), f"labels {np.unique(labels[~known])}"


def check(problem: Problem, pairs: Pairs) -> None:
    """Raises unless all samples are there, well-formed, and what was written."""
    for image, labels in pairs:
        assert image.dtype == np.uint8
        assert image.shape == (*labels.shape, 3)
        _check_labels(labels, 255 if problem.changes else problem.num_classes)
    if not problem.exact:
        return
    assert len(pairs) == len(problem.samples)
    for (image, labels), sample in zip(pairs, problem.samples, strict=True):
        assert labels.shape == sample.labels.shape
        np.testing.assert_array_equal(labels, sample.labels)
        if problem.kind != "predict":
            lossless = not sample.image_path.endswith(".jpg")
            difference = np.abs(image.astype(int) - sample.image).max()
            # A JPEG of noise is only roughly what it was.
            assert difference <= (0 if lossless else 255)
