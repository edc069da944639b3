"""The competition's way to train, which the train stage is measured against: image_dataset_from_directory + fit.

    .venv-stages/bin/python benchmarks/plain_script.py DATA EPOCHS

Prints `epoch N` after each epoch.
"""

import sys
import tempfile
from pathlib import Path

import keras

sys.path.insert(0, str(Path(__file__).parents[1]))
from models.resnet import build_model  # noqa: E402


def main(data: str, epochs: int) -> None:
    keras.utils.set_random_seed(123)
    train, val = (
        keras.utils.image_dataset_from_directory(
            f"{data}/{split}", label_mode="categorical", batch_size=8, image_size=(32, 32), seed=123, verbose=False
        )
        for split in ("train", "val")
    )
    model = build_model(len(train.class_names))
    model.compile(
        optimizer=keras.optimizers.Adam(1e-4),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    weights = f"{tempfile.mkdtemp()}/best.weights.h5"
    checkpoint = keras.callbacks.ModelCheckpoint(
        weights, monitor="val_accuracy", mode="max", save_best_only=True, save_weights_only=True
    )
    print_epoch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: print(f"epoch {epoch + 1}", flush=True)
    )
    model.fit(train, validation_data=val, epochs=epochs, callbacks=[checkpoint, print_epoch], verbose=0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
