import keras
import numpy as np

from models.resnet import build_model


def test_model_is_resnet50_cut_after_its_first_stage_and_one_dense_layer() -> None:
    classes, outputs = 3, 256  # channels of the last block
    model = build_model(classes)
    full = keras.applications.ResNet50(input_shape=(32, 32, 3), include_top=False, weights=None)
    cut = keras.Model(full.input, full.get_layer("conv2_block3_out").output)
    assert cut.output.shape[-1] == outputs
    assert model.count_params() == cut.count_params() + (outputs + 1) * classes


def test_competition_model_has_its_published_number_of_parameters() -> None:
    assert build_model(10).count_params() == 232_330


def test_logits_of_raw_pixels() -> None:
    model = build_model(4)
    images = np.random.default_rng(1).uniform(0, 255, (5, 32, 32, 3)).astype(np.float32)
    logits = model(images, training=False).numpy()
    assert logits.shape == (5, 4)
    assert not np.allclose(np.exp(logits).sum(axis=1), 1), "these would be probabilities"
    assert np.ptp(logits, axis=0).min() > 0, "each image has its own logits"


def test_weights_start_from_the_seed() -> None:
    def weights(seed: int) -> np.ndarray:
        keras.utils.set_random_seed(seed)
        return np.concatenate([weight.ravel() for weight in build_model(2).get_weights()])

    first = weights(1)
    np.testing.assert_array_equal(weights(1), first)
    assert (weights(2) != first).any()


def test_preprocessing_is_part_of_the_model() -> None:
    """ResNet's own: channels reversed to BGR and centred on the means of ImageNet."""
    model = build_model(2)
    images = np.random.default_rng(3).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    (backbone,) = (layer for layer in model.layers if isinstance(layer, keras.Model))
    features = backbone(images[..., ::-1] - [103.939, 116.779, 123.68], training=False)
    expected = model.layers[-1](keras.ops.mean(features, axis=(1, 2)))
    np.testing.assert_allclose(model(images, training=False), expected, rtol=1e-3, atol=1e-4)
