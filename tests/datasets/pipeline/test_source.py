from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from noise_source import noise_source

from tf_levelset.datasets.pipeline import (
    evaluation_dataset,
    image_dataset,
    in_memory,
    subset,
    training_dataset,
)


class TestSubset:
    @pytest.mark.parametrize("has_labels", [True, False])
    def test_takes_samples_in_the_given_order(self, has_labels: bool) -> None:
        source = replace(noise_source(), has_labels=has_labels)
        part = subset(source, [3, 1], name="part")
        assert (part.name, part.num_samples) == ("part", 2)
        assert part.sample_names == ("s3", "s1")
        assert part.has_labels == has_labels
        assert [int(image[0, 0, 0]) for image in image_dataset(part)] == [3, 1]

    def test_rejects_unknown_samples_and_none(self) -> None:
        with pytest.raises(ValueError, match=r"Expected `indices` in \[0, 5\)"):
            subset(noise_source(), [0, 5])
        with pytest.raises(ValueError, match="at least 1 sample"):
            subset(noise_source(), [])


class TestInMemory:
    def test_holds_the_same_samples(self) -> None:
        source = noise_source()
        reads = tf.Variable(0)

        def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            reads.assign_add(1)
            return source.load(index)

        held = in_memory(replace(source, load=load))
        assert int(reads) == 5
        for dataset in (
            evaluation_dataset,
            lambda of: training_dataset(of, batch_size=3, seed=1, num_steps=4),
        ):
            for ours, theirs in zip(dataset(held), dataset(source), strict=True):
                np.testing.assert_array_equal(ours[0], theirs[0])
                np.testing.assert_array_equal(ours[1], theirs[1])
        assert int(reads) == 5
        assert held.sample_names == source.sample_names

    def test_rejects_samples_of_several_sizes(self) -> None:
        with pytest.raises(ValueError, match=r"samples of one size.*'noise'"):
            in_memory(noise_source(image_size=None))
