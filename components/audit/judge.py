"""The judge: a small CNN that says of which class a picture is, after it has learned from other pictures.

It never becomes the model; it only has to rank images. Since it is small and sees each picture warped differently in
every epoch, it has little chance to learn a wrong label by heart.
"""

import tempfile
from typing import Any, BinaryIO, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from components.audit.warp import INK, PICTURES, Strength, warp_pictures
from components.shared.datasets import without_tuning

BATCH = 32  # pictures
PART = 2**14  # pictures that are in memory at a time; a multiple of each size of a batch
LEARNING_RATE = 2e-3  # at its peak, after the first epoch
FEATURES = "features"  # name of the layer
NEIGHBOURS = 5
LOOKS = 3  # predictions for each view: one of it unchanged, the others of it slightly warped


class Verdict(NamedTuple):
    """What judges say about some pictures."""

    probabilities: NDArray[np.float32]  # [pictures, classes]
    # [pictures], cosine, from pictures of the same label: 0 like them, 1 unlike them all; NaN if it was not judged
    distance: NDArray[np.float32]
    # [pictures], likewise, from pictures of the most probable class; a mean verdict has the mean over its judges, each
    # with the class that it finds most probable
    guess_distance: NDArray[np.float32]


def judge_unseen(
    views: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    learned: NDArray[np.int64],
    unseen: NDArray[np.int64],
    classes: int,
    epochs: int,
    seed: int,
) -> Verdict:
    """Trains a judge on some pictures and asks it about others.

    Args:
        views: All pictures, uint8 [pictures, views, side, side, channels], perhaps on disk; 1 channel holds ink, 3 a
            picture in its colours.
        labels: Their classes, int64 [pictures].
        learned: The numbers of the pictures to learn from, int64 [learned pictures].
        unseen: The numbers of those to judge, likewise; only the distance depends on their labels.
        classes: The number of classes.
        epochs: How long the judge is trained.
        seed: The same seed gives the same verdict.

    Returns:
        The verdict on the unseen pictures.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    model = _build_model(views.shape[2:], classes)
    warps = INK if views.shape[-1] == 1 else PICTURES
    _train(model, views, labels, learned=learned, warps=warps.strong, epochs=epochs, seed=seed)
    probabilities = _predict_probabilities(model, views, unseen, warps=warps.slight, seed=seed)
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as other:
        extractor = keras.Model(model.inputs, model.get_layer(FEATURES).output)
        features = _extract_features(extractor, views, learned, file=one)
        unseen_features = _extract_features(extractor, views, unseen, file=other)
        distance, guess_distance = (
            _measure_distance(features, labels[learned], unseen=unseen_features, unseen_labels=compared)
            for compared in (labels[unseen], probabilities.argmax(axis=1))
        )
    return Verdict(probabilities, distance, guess_distance)


def _build_model(shape: tuple[int, ...], classes: int) -> keras.Model:
    """Returns a model of 230,000 parameters, from tones 0 to 255 to logits."""

    def convolution(filters: int, size: int, strides: int = 1) -> list[keras.Layer]:
        # The default momentum needs more steps than a short training has.
        return [
            layers.Conv2D(filters, size, strides, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
        ]

    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Rescaling(1 / 255),
            *convolution(16, 5, strides=2),
            *convolution(32, 3),
            *convolution(32, 3),
            layers.MaxPooling2D(),
            *convolution(64, 3),
            *convolution(64, 3),
            layers.MaxPooling2D(),
            layers.Flatten(name=FEATURES),
            layers.Dropout(0.3),
            layers.Dense(classes),
        ]
    )


def _train(
    model: keras.Model,
    views: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    learned: NDArray[np.int64],
    warps: Strength,
    epochs: int,
    seed: int,
) -> None:
    """Shows one view of each picture per epoch, warped; the learning rate rises for one epoch and then falls to 0."""
    steps = -(-len(learned) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE / 10, max(steps * (epochs - 1), 1), warmup_target=LEARNING_RATE, warmup_steps=steps
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=0.01),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        steps_per_execution=8,
        jit_compile=False,  # XLA is slower for this model on CPUs
    )
    model.optimizer.build(model.trainable_variables)  # otherwise the step is traced twice
    one_hot = np.eye(model.output_shape[1], dtype=np.float32)
    for epoch in range(epochs):
        rng, warping = np.random.default_rng([seed, epoch]), np.random.default_rng([seed, epoch])
        order = rng.permutation(learned)
        shown_views = rng.integers(views.shape[1], size=len(order))
        for some in _divide(len(order)):
            shown = warp_pictures(views[order[some], shown_views[some]], warps, warping)
            model.fit(_make_batches(BATCH, shown, one_hot[labels[order[some]]]), epochs=1, verbose=0)


def _make_batches(size: int, *arrays: NDArray[Any]) -> tf.data.Dataset:
    """The arrays in batches of so many pictures, in their order. Keras would make some that TensorFlow tunes."""
    is_even = len(arrays[0]) % size == 0  # then all batches are of one size, which decides in which order sums are made
    batches = tf.data.Dataset.from_tensor_slices(arrays).batch(size, drop_remainder=is_even)
    return without_tuning(batches.prefetch(1))


def _divide(count: int) -> list[slice]:
    """Divides pictures into parts of which one at a time is in memory; batches do not depend on the division."""
    return [slice(start, start + PART) for start in range(0, count, PART)]


def _predict_probabilities(
    model: keras.Model, views: NDArray[np.uint8], pictures: NDArray[np.int64], *, warps: Strength, seed: int
) -> NDArray[np.float32]:
    """Returns the mean of LOOKS predictions for each view, float32 [pictures, classes]."""
    total = np.zeros((len(pictures), model.output_shape[1]), np.float32)
    for view in range(views.shape[1]):
        for look in range(LOOKS):
            warping = np.random.default_rng([seed, look])
            for some in _divide(len(pictures)):
                shown = views[pictures[some], view]
                shown = warp_pictures(shown, warps, warping) if look else shown
                logits = model.predict(_make_batches(256, shown), verbose=0)
                total[some] += keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    return total / np.float32(views.shape[1] * LOOKS)


def _extract_features(
    extractor: keras.Model, views: NDArray[np.uint8], pictures: NDArray[np.int64], *, file: BinaryIO
) -> NDArray[np.float32]:
    """Returns what the judge's last layer sees, the mean of all views, float32 [pictures, features], in the file."""
    features = np.memmap(file, np.float32, "w+", shape=(len(pictures), extractor.output_shape[1]))
    for some in _divide(len(pictures)):
        of_views = [
            extractor.predict(_make_batches(256, views[pictures[some], view]), verbose=0)
            for view in range(views.shape[1])
        ]
        features[some] = np.mean(of_views, axis=0)
    return features


def _measure_distance(
    known: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    unseen: NDArray[np.float32],
    unseen_labels: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Returns how far each unseen picture is from the nearest known ones of its label, by their features."""
    distance = np.ones(len(unseen), np.float32)
    for label in np.intersect1d(labels, unseen_labels):
        alike = known[labels == label]
        nearest = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(alike)), metric="cosine").fit(alike)
        distance[unseen_labels == label] = nearest.kneighbors(unseen[unseen_labels == label])[0].mean(axis=1)
    return distance
