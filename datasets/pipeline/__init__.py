"""One input pipeline for every data set, from a `Source` to the batches of a run.

`source` says what a data set is, `transform` augments one sample, `window` is the
geometry of that in NumPy, and `batches` makes the `tf.data.Dataset`s.
"""

from tf_levelset.datasets.pipeline.batches import (
    arrays_of,
    batch_names,
    evaluation_dataset,
    image_dataset,
    sample_index,
    sample_seed,
    training_dataset,
)
from tf_levelset.datasets.pipeline.source import Source, in_memory, subset
from tf_levelset.datasets.pipeline.transform import (
    augment,
    augment_compactly,
    sample_window,
    to_float,
)

__all__ = [
    "Source",
    "arrays_of",
    "augment",
    "augment_compactly",
    "batch_names",
    "evaluation_dataset",
    "image_dataset",
    "in_memory",
    "sample_index",
    "sample_seed",
    "sample_window",
    "subset",
    "to_float",
    "training_dataset",
]
