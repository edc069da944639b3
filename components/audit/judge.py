"""The judge: a small CNN that says which numeral a picture shows, trained on pictures of others.

It never becomes the model; it only has to rank. It is small and sees each picture warped anew in every epoch, so it has
little chance to learn a wrong label by heart.
"""

from typing import TYPE_CHECKING, NamedTuple

from components.audit.warp import SLIGHT, STRONG, warped

if TYPE_CHECKING:
    import keras
    import numpy as np

BATCH = 32  # pictures
LEARNING_RATE = 2e-3  # at its peak, after the first epoch
FEATURES = "features"  # the layer
NEIGHBOURS = 5
LOOKS = 3  # at each view, when predicting: as it is, then warped slightly


class Verdict(NamedTuple):
    """On each of some pictures."""

    probabilities: "np.ndarray"  # float [pictures, classes]
    distance: "np.ndarray"  # float [pictures], cosine, from those of the same label: 0 alike to 1 unlike them all


def learn_and_judge(
    views: "np.ndarray",
    labels: "np.ndarray",
    unseen: "np.ndarray",
    unseen_labels: "np.ndarray",
    classes: int,
    epochs: int,
    seed: int,
) -> Verdict:
    """The verdict on the `unseen` pictures of a judge that learns the others.

    `views` and `unseen` are uint8 [pictures, views, side, side], the labels int [pictures].
    """
    import keras
    import numpy as np
    import tensorflow as tf

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    model = _model(views.shape[-1], classes)
    _fit(model, views, np.eye(classes, dtype=np.float32)[labels], epochs, seed)
    features = keras.Model(model.inputs, model.get_layer(FEATURES).output)
    known, new = _mean_features(features, views), _mean_features(features, unseen)
    return Verdict(_probabilities(model, unseen, seed), _distance(known, labels, new, unseen_labels))


def _probabilities(model: "keras.Model", unseen: "np.ndarray", seed: int) -> "np.ndarray":
    """The mean of some looks at each view."""
    import keras
    import numpy as np

    looks = []
    for view in range(unseen.shape[1]):
        for look in range(LOOKS):
            seen = warped(unseen[:, view], SLIGHT, [seed, look]) if look else unseen[:, view]
            logits = model.predict(seen[..., None], batch_size=256, verbose=0)
            looks.append(keras.ops.convert_to_numpy(keras.ops.softmax(logits)))
    return np.mean(looks, axis=0)


def _mean_features(features: "keras.Model", pictures: "np.ndarray") -> "np.ndarray":
    """What the judge's last layer sees, the mean of all views, float32 [pictures, features]."""
    import numpy as np

    views = range(pictures.shape[1])
    return np.mean(
        [features.predict(pictures[:, view, ..., None], batch_size=256, verbose=0) for view in views], axis=0
    )


def _distance(known: "np.ndarray", labels: "np.ndarray", new: "np.ndarray", new_labels: "np.ndarray") -> "np.ndarray":
    """How far each new picture is from the nearest known ones of its label, by their features."""
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    distance = np.ones(len(new), np.float32)
    for label in np.intersect1d(labels, new_labels):
        alike = known[labels == label]
        nearest = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(alike)), metric="cosine").fit(alike)
        distance[new_labels == label] = nearest.kneighbors(new[new_labels == label])[0].mean(axis=1)
    return distance


def _fit(model: "keras.Model", pictures: "np.ndarray", targets: "np.ndarray", epochs: int, seed: int) -> None:
    """Every epoch shows one view of each picture, warped; the learning rate rises for one epoch and falls to 0."""
    import keras
    import numpy as np

    steps = -(-len(pictures) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE / 10, max(steps * (epochs - 1), 1), warmup_target=LEARNING_RATE, warmup_steps=steps
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=0.01),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        steps_per_execution=8,
        jit_compile=False,  # XLA is slower for this model on CPUs
    )
    model.optimizer.build(model.trainable_variables)  # or the step is traced twice
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(pictures))
        shown = pictures[order, rng.integers(pictures.shape[1], size=len(order))]
        shown = warped(shown, STRONG, [seed, epoch])[..., None]
        model.fit(shown, targets[order], batch_size=BATCH, epochs=1, shuffle=False, verbose=0)


def _model(side: int, classes: int) -> "keras.Model":
    """230,000 parameters; from tones 0 to 255 to logits."""
    import keras
    from keras import layers

    def convolution(filters: int, size: int, strides: int = 1) -> list[keras.Layer]:
        # the momentum of the default needs more steps than a short training has
        return [
            layers.Conv2D(filters, size, strides, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
        ]

    return keras.Sequential(
        [
            keras.Input((side, side, 1)),
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
