import numpy as np

from models.mobilenet import CHANNELS, SIZE, build_model


def test_takes_pictures_in_colour_and_gives_logits() -> None:
    model = build_model(10)
    assert (model.input_shape, model.output_shape) == ((None, *SIZE, CHANNELS), (None, 10))
    assert model.count_params() == 221_114
    images = np.random.default_rng(1).uniform(0, 255, (3, *SIZE, CHANNELS)).astype(np.float32)
    logits = model.predict(images, verbose=0)
    assert np.ptp(logits, axis=0).min() > 0, "the images make no difference"
    assert not np.allclose(logits.sum(axis=1), 1)


def test_weights_are_few_for_many_classes_too() -> None:
    assert build_model(300).count_params() - build_model(10).count_params() == 290 * 257
