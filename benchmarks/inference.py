"""Seconds a picture: the exported model beside other runtimes, and Table 4 again.

Every runtime has a process of its own and two threads, answers for the same picture,
and its answers are held against Keras' own before anything is timed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness

THREADS = 2
BOUND = 1.2
"""How much faster another runtime may be before it is worth an export option."""

LARGEST_DIFFERENCE = 1e-2
"""Of a probability, from Keras': above it a runtime computes something else."""

MODELS: dict[str, dict[str, Any]] = {
    "full": {
        "net": "deeplab_largefov",
        "classes": 21,
        "size": (321, 321),
        "options": {},
        "rounds": 8,
    },
    # What `train_keras.py --dataset camvid` trains.
    "narrow": {
        "net": "deeplab_largefov",
        "classes": 11,
        "size": (360, 480),
        "options": {
            "width": 0.25,
            "batch_norm": True,
            "dilation": 4,
            "input_scale": 0.5,
        },
        "rounds": 40,
    },
}

QUICK: dict[str, Any] = {"size": (65, 81), "rounds": 2}
"""What `--quick` puts in their place, for the narrow net alone, at a twentieth."""

# By case, the factory of this module and its arguments.
RUNTIMES: dict[str, tuple[str, dict[str, Any]]] = {
    "saved_model": ("saved_model", {}),
    "saved_model_onednn": ("saved_model", {"onednn": True}),
    "predict": ("keras_predict", {}),
    "graph": ("keras_function", {"jit_compile": False}),
    "xla": ("keras_function", {"jit_compile": True}),
    "openvino": ("openvino", {"fixed": False}),
    "openvino_fixed": ("openvino", {"fixed": True}),
    "onnxruntime": ("onnxruntime", {}),
}

PEERS = {
    "OpenVINO": ("openvino", "openvino_fixed"),
    "ONNX Runtime": ("onnxruntime",),
}

Answers = dict[str, np.ndarray]


def measure(quick: bool) -> dict[str, Any]:
    """Measures both models in every runtime, and the rows of Table 4.

    Returns:
        JSON's types: sizes, cases ("full/saved_model" and so on, "table4/…"), targets,
        `agreement` (by case, against Keras: the largest difference of a probability
        and the pixels whose class differs), `table4` and notes.
    """
    require_peers()
    result: dict[str, Any] = {
        "sizes": {},
        "cases": {},
        "targets": [],
        "agreement": {},
        "notes": [
            "xla: not for the narrow net, which resizes pictures with antialiasing; "
            "XLA has no such operation.",
            "saved_model_onednn: the same file under TF_ENABLE_ONEDNN_OPTS=1, which is "
            "TensorFlow's default on processors with VNNI alone.",
            "openvino_fixed: the graph reshaped to the picture's size; openvino takes "
            "any, as ours does.",
            "onnxruntime and openvino get converters of this file for what theirs "
            "refuse (ScaleAndTranslate) or get wrong (tf2onnx: FloorMod of negative "
            "integers, which makes sizes that are not 8k + 1 come out smaller).",
        ],
    }
    for name in ("narrow",) if quick else tuple(MODELS):
        settings = {**MODELS[name], **QUICK} if quick else MODELS[name]
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), settings, quick)
            compare(result, name, Path(folder), settings)
    result["table4"] = table4(result, quick)
    return result


def require_peers() -> None:
    """Raises unless the runtimes to compare with are there."""
    try:
        import onnxruntime  # noqa: F401
        import openvino  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Expected OpenVINO, ONNX Runtime and tf2onnx. They come with "
            "pip install -e '.[bench]'"
        ) from error


# --- What is compared ---


def prepare(folder: Path, settings: dict[str, Any], quick: bool) -> None:
    """Writes a net's files: model.keras, 1/ (ours), model.onnx and picture.npy."""
    from tf_levelset.export.saved_model import export

    image = picture(settings["size"])
    np.save(folder / "picture.npy", image[np.newaxis].astype(np.float32))
    model = random_net(settings, image, quick)
    model.save(folder / "model.keras")
    write_onnx(export(model, folder), folder / "model.onnx")


def random_net(settings: dict[str, Any], image: np.ndarray, quick: bool) -> Any:
    """A net of random weights whose answers for a picture hold several classes."""
    import keras

    from tf_levelset.models import at_input_size, create_model

    keras.utils.set_random_seed(0)
    options = dict(settings["options"])
    scale = options.pop("input_scale", 1.0)
    if quick:
        options["width"] = 0.05
    net = create_model(settings["net"], settings["classes"], upsample=False, **options)
    # A fresh net says about the same of all pixels: spread its logits around 0.
    logits = np.asarray(net(image[np.newaxis].astype(np.float32), training=False))
    mean, deviation = logits.mean((0, 1, 2)), logits.std((0, 1, 2))
    last = net.get_layer("fc8")
    kernel, bias = last.get_weights()
    last.set_weights([kernel / deviation, (bias - mean) / deviation])
    return at_input_size(net, scale)


def picture(size: tuple[int, int]) -> np.ndarray:
    """A picture, uint8 (H, W, 3): a photograph where there is one, else a scene.

    A CRF's time depends on the colours that are in it.
    """
    import cv2
    from PIL import Image

    path = photograph()
    if path is not None:
        image = np.asarray(Image.open(path).convert("RGB"))
        return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA))
    from tf_levelset.datasets import load_dataset
    from tf_levelset.datasets.pipeline import evaluation_dataset

    source = load_dataset("synthetic", "val")
    image, _ = next(evaluation_dataset(source).as_numpy_iterator())
    return np.asarray(cv2.resize(image, size[::-1]))


def photograph() -> Path | None:
    """Returns VOC's first picture under TF_LEVELSET_DATA, if it is there."""
    root = os.environ.get("TF_LEVELSET_DATA")
    pictures = sorted(Path(root).glob("voc_sample/JPEGImages/*.jpg")) if root else []
    return pictures[0] if pictures else None


def compare(
    result: dict[str, Any], name: str, folder: Path, settings: dict[str, Any]
) -> None:
    """Times one net in every runtime, adding to `result`."""
    names = [
        case
        for case in RUNTIMES
        if case != "xla" or "input_scale" not in settings["options"]
    ]
    workers: dict[str, harness.Worker] = {}
    try:
        for case in names:
            factory, arguments = RUNTIMES[case]
            workers[case] = harness.Worker(
                f"benchmarks.inference:{factory}",
                folder=str(folder),
                answers=case,
                **arguments,
            )
        agreement = agreements(folder, names)
        samples = harness.alternate(workers, settings["rounds"])
    finally:
        for worker in workers.values():
            worker.close()
    result["sizes"][name] = {
        **settings,
        "threads": THREADS,
        "picture": "VOC" if photograph() else "synthetic",
    }
    result["agreement"][name] = agreement
    add_cases(result, name, samples)
    result["targets"] += [
        harness.target(
            f"the exported model over {peer}, {name} net",
            (pairs := harness.ratio(samples, ["saved_model"], cases))["median"],
            BOUND,
            "at most",
            ratio=pairs,
        )
        for peer, cases in PEERS.items()
    ]
    result.setdefault("ratios", {})[name] = {
        case: harness.ratio(samples, ["saved_model"], [case])
        for case in names
        if case != "saved_model"
    }


def add_cases(result: dict[str, Any], group: str, samples: harness.Samples) -> None:
    """Adds the samples of a group of cases, with their summaries."""
    for case, seconds in samples.items():
        result["cases"][f"{group}/{case}"] = {
            "seconds": seconds,
            **harness.summary(seconds),
        }


def agreements(folder: Path, names: list[str]) -> dict[str, dict[str, float]]:
    """How far each runtime's answers are from Keras' in graph mode.

    Raises:
        ValueError: where they are another net's.
    """
    keras_answers = np.load(folder / "graph.npz")
    reference = keras_answers["probabilities"]
    found = {}
    for name in names:
        with np.load(folder / f"{name}.npz") as answers:
            difference = float(np.abs(answers["probabilities"] - reference).max())
            mask = answers["mask"]
        if not difference < LARGEST_DIFFERENCE:
            raise ValueError(
                f"Expected {name} to answer as Keras does. Received: a probability "
                f"that differs by {difference:.2g}"
            )
        found[name] = {
            "largest_difference": difference,
            "pixels_that_differ": int((mask != keras_answers["mask"]).sum()),
        }
    return found


# --- Other formats ---


def write_onnx(saved_model: Path, path: Path) -> None:
    """Converts our SavedModel's `serving_default` by tf2onnx."""
    import tensorflow as tf
    import tf2onnx

    # Kept: an endpoint lives as long as the loaded object.
    loaded = tf.saved_model.load(str(saved_model))
    endpoint = loaded.signatures["serving_default"]

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, "images")]
    )
    def serving(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(endpoint(images=images))

    tf2onnx.convert.from_function(
        serving,
        input_signature=serving.input_signature,
        opset=18,
        custom_op_handlers={
            "FloorMod": (_onnx_mod, []),
            "ScaleAndTranslate": (_onnx_resize, []),
        },
        output_path=str(path),
    )


def _onnx_mod(ctx: Any, node: Any, name: str, arguments: Any) -> None:
    """ONNX's Mod has the divisor's sign, as TensorFlow's FloorMod."""
    node.type = "Mod"


def _onnx_resize(ctx: Any, node: Any, name: str, arguments: Any) -> None:
    """The antialiased resize, of whose inputs the size says all."""
    images, size = node.input[:2]
    output = node.output[0]
    shape, dtype = ctx.get_shape(output), ctx.get_dtype(output)
    int64 = ctx.make_node("Cast", [size], attr={"to": 7})
    ctx.remove_node(node.name)
    ctx.make_node(
        "Resize",
        [images, "", "", int64.output[0]],
        name=node.name,
        outputs=[output],
        shapes=[shape],
        dtypes=[dtype],
        attr={
            "mode": "linear",
            "antialias": 1,
            "exclude_outside": 1,
            "coordinate_transformation_mode": "half_pixel",
            "axes": [1, 2],
        },
    )


# --- Runtimes, each in a process of its own ---


def _work(folder: str, answers: str, run: Callable[[], Answers]) -> Callable[[], None]:
    """Writes what a runtime answers, and returns it as a function to be timed."""
    np.savez(Path(folder) / f"{answers}.npz", **run())  # type: ignore[arg-type]

    def work() -> None:
        run()

    return work


def _tensorflow() -> Any:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    return tf


def _picture(folder: str) -> np.ndarray:
    return np.asarray(np.load(Path(folder) / "picture.npy"))


def saved_model(folder: str, answers: str, onednn: bool = False) -> Callable[[], None]:
    """Ours: the endpoint `serving_default`."""
    if onednn:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    tf = _tensorflow()
    loaded = tf.saved_model.load(str(Path(folder) / "1"))
    endpoint, images = loaded.signatures["serving_default"], _picture(folder)

    def run(loaded: Any = loaded) -> Answers:
        outputs = endpoint(images=tf.constant(images))
        return {name: value.numpy() for name, value in outputs.items()}

    return _work(folder, answers, run)


def _keras_model(folder: str) -> Any:
    import keras

    import tf_levelset  # noqa: F401

    return keras.models.load_model(Path(folder) / "model.keras", compile=False)


def keras_predict(folder: str, answers: str) -> Callable[[], None]:
    """`model.predict`, and NumPy for what is left."""
    tf = _tensorflow()
    model, images = _keras_model(folder), _picture(folder)

    def run() -> Answers:
        logits = model.predict(images, verbose=0)
        return {"mask": logits.argmax(-1), "probabilities": tf.nn.softmax(logits)}

    return _work(folder, answers, run)


def keras_function(folder: str, answers: str, jit_compile: bool) -> Callable[[], None]:
    """The Keras model in a `tf.function`, for pictures of one size."""
    tf = _tensorflow()
    model, images = _keras_model(folder), _picture(folder)

    @tf.function(jit_compile=jit_compile)
    def answer(images: Any) -> tuple[Any, Any]:
        logits = model(images, training=False)
        return tf.cast(tf.argmax(logits, -1), tf.uint8), tf.nn.softmax(logits)

    def run() -> Answers:
        mask, probabilities = answer(tf.constant(images))
        return {"mask": mask.numpy(), "probabilities": probabilities.numpy()}

    return _work(folder, answers, run)


def openvino(folder: str, answers: str, fixed: bool) -> Callable[[], None]:
    """OpenVINO, which reads our SavedModel; its default mode is for one picture."""
    import openvino as ov
    from openvino import opset11
    from openvino.frontend.tensorflow import ConversionExtension

    def antialiased(node: Any) -> list[Any]:
        resized = opset11.interpolate(
            node.get_input(0),
            node.get_input(1),
            "bilinear_pillow",
            "sizes",
            axes=opset11.constant(np.array([1, 2])),
        )
        return [resized.output(0)]

    images = _picture(folder)
    model = ov.convert_model(
        str(Path(folder) / "1"),
        extension=[ConversionExtension("ScaleAndTranslate", antialiased)],
    )
    if fixed:
        model.reshape(list(images.shape))
    compiled = ov.Core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_NUM_THREADS": THREADS,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        },
    )

    def run() -> Answers:
        outputs = compiled(images)
        return {name: outputs[name] for name in ("mask", "probabilities")}

    return _work(folder, answers, run)


def onnxruntime(folder: str, answers: str) -> Callable[[], None]:
    """ONNX Runtime on the file that tf2onnx makes of our SavedModel."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = ort.InferenceSession(
        str(Path(folder) / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    images, names = _picture(folder), ["mask", "probabilities"]

    def run() -> Answers:
        outputs = session.run(names, {"images": images})
        return dict(zip(names, outputs, strict=True))

    return _work(folder, answers, run)


# --- Table 4 ---

COLUMNS = {"ls": 0, "ce+crf5": 5, "ce+crf10": 10}
"""Iterations of the CRF by the paper's column."""


def table4(result: dict[str, Any], quick: bool) -> list[dict[str, Any]]:
    """Times net, net + CRF-5 and net + CRF-10 for each net of Table 4.

    Returns:
        A row a net: medians in seconds and their ratios to the net alone, by column,
        ours and the paper's.
    """
    from tf_levelset.reporting.published import TABLES

    (table,) = (table for table in TABLES if table.number == 4)
    rows = []
    for row in table.rows[:1] if quick else table.rows:
        net = row.recipe.removeprefix("voc-")
        rounds = 2 if quick else (6 if net == "deeplab_largefov" else 3)
        samples = table4_samples(net, rounds, quick)
        add_cases(result, f"table4/{net}", samples)
        ours = {column: float(np.median(samples[column])) for column in COLUMNS}
        assert row.seconds is not None
        rows.append(
            {
                "net": row.title,
                "rounds": rounds,
                "seconds": ours,
                "ratios": {column: ours[column] / ours["ls"] for column in COLUMNS},
                "published_seconds": row.seconds,
                "published_ratios": {
                    column: row.seconds[column] / row.seconds["ls"]
                    for column in COLUMNS
                },
            }
        )
    return rows


def table4_samples(net: str, rounds: int, quick: bool) -> harness.Samples:
    """Times a net in a process of its own; the first round does not count."""
    factory = "benchmarks.inference:table4_row"
    samples: harness.Samples = {column: [] for column in COLUMNS}
    with harness.Worker(factory, net=net, quick=quick) as worker:
        worker()
        for _ in range(rounds):
            worker()
            for column in COLUMNS:
                samples[column].append(worker.details[column])
    return samples


def table4_row(net: str, quick: bool) -> Callable[[], dict[str, float]]:
    """A net of random weights, with and without a CRF, all three in turns."""
    _tensorflow()
    from tf_levelset.inference.crf import PRESETS, refined
    from tf_levelset.inference.predictor import KerasPredictor
    from tf_levelset.models import create_model

    image = picture((65, 65) if quick else (321, 321))
    predictor = KerasPredictor(create_model(net, 21, width=0.05 if quick else 1.0))
    backbone = "resnet" if "resnet" in net else "vgg"
    cases = {
        column: _timed_case(
            refined(predictor, PRESETS[f"{backbone}_{iterations}"])
            if iterations
            else predictor,
            image,
        )
        for column, iterations in COLUMNS.items()
    }

    def work() -> dict[str, float]:
        samples = harness.alternate(cases, rounds=1, warmups=0)
        return {column: seconds for column, (seconds,) in samples.items()}

    return work


def _timed_case(
    predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray
) -> Callable[[], None]:
    def case() -> None:
        predict(image)

    return case
