"""The judge: a small CNN that says of which class a picture is, after it has learned from other pictures.

It never becomes the model; it only has to rank images. Since it is small and sees each picture warped differently in
every epoch, it has little chance to learn a wrong label by heart.
"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from components.audit.warp import INK, PICTURES, Warps, warp_pictures

BATCH = 32  # pictures
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
    unseen: NDArray[np.uint8],
    unseen_labels: NDArray[np.int64],
    classes: int,
    epochs: int,
    seed: int,
) -> Verdict:
    """Trains a judge on some pictures and asks it about others.

    Args:
        views: The pictures to learn from, uint8 [pictures, views, side, side, channels]; 1 channel
            holds ink, 3 a picture in its colours.
        labels: Their classes, int64 [pictures].
        unseen: The pictures to judge, likewise.
        unseen_labels: Their classes, int64 [unseen pictures]; only the distance depends on them.
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
    _train(model, views, np.eye(classes, dtype=np.float32)[labels], epochs=epochs, seed=seed)
    extractor = keras.Model(model.inputs, model.get_layer(FEATURES).output)
    features, unseen_features = _extract_features(extractor, views), _extract_features(extractor, unseen)
    probabilities = _predict_probabilities(model, unseen, seed)
    distance, guess_distance = (
        _measure_distance(features, labels, unseen=unseen_features, unseen_labels=compared)
        for compared in (unseen_labels, probabilities.argmax(axis=1))
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
    model: keras.Model, pictures: NDArray[np.uint8], targets: NDArray[np.float32], *, epochs: int, seed: int
) -> None:
    """Shows one view of each picture per epoch, warped; the learning rate rises for one epoch and then falls to 0."""
    steps, warps = -(-len(pictures) // BATCH), _choose_warps(pictures)
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
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(pictures))
        shown = pictures[order, rng.integers(pictures.shape[1], size=len(order))]
        shown = warp_pictures(shown, warps.strong, [seed, epoch])
        model.fit(shown, targets[order], batch_size=BATCH, epochs=1, shuffle=False, verbose=0)


def _choose_warps(pictures: NDArray[np.uint8]) -> Warps:
    return INK if pictures.shape[-1] == 1 else PICTURES


def _predict_probabilities(model: keras.Model, pictures: NDArray[np.uint8], seed: int) -> NDArray[np.float32]:
    """Returns the mean of LOOKS predictions for each view, float32 [pictures, classes]."""
    looks, slight = [], _choose_warps(pictures).slight
    for view in range(pictures.shape[1]):
        for look in range(LOOKS):
            shown = warp_pictures(pictures[:, view], slight, [seed, look]) if look else pictures[:, view]
            logits = model.predict(shown, batch_size=256, verbose=0)
            looks.append(keras.ops.convert_to_numpy(keras.ops.softmax(logits)))
    return np.asarray(np.mean(looks, axis=0))


def _extract_features(extractor: keras.Model, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns what the judge's last layer sees, the mean of all views, float32 [pictures, features]."""
    views = range(pictures.shape[1])
    features = [extractor.predict(pictures[:, view], batch_size=256, verbose=0) for view in views]
    return np.asarray(np.mean(features, axis=0))


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
