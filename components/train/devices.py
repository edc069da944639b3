"""What a model is trained on: one device, or several GPUs of this machine, which share each batch."""

import tensorflow as tf

from components.shared.errors import UserError


def list_gpus() -> list[str]:
    """The names of the GPUs that TensorFlow finds on this machine."""
    return [device.name for device in tf.config.list_logical_devices("GPU")]


def choose_strategy(gpus: int) -> tf.distribute.Strategy:
    """How so many GPUs share a batch; with 1, what TensorFlow does by itself, which may be to use the CPU.

    Raises:
        UserError: There are not so many.
    """
    if gpus == 1:
        return tf.distribute.get_strategy()
    found = list_gpus()
    if len(found) < gpus:
        raise UserError(
            f"gpus is {gpus}, but TensorFlow finds {len(found)} here; lower it, or give the stage train an accelerator "
            "with so many in the cluster's config."
        )
    return tf.distribute.MirroredStrategy(found[:gpus])
