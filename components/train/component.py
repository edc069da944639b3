"""The step `train`: the fixed model learns from the images."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Metrics, Model, Output

from components.shared.artifacts import log_metrics, name_outputs
from components.shared.errors import exit_on_user_error


@exit_on_user_error
@name_outputs
def train(
    transformed_examples: Input[Dataset],
    transform_graph: Input[Artifact],
    epochs: int,
    batch_size: int,
    learning_rate: float,
    learning_rate_schedule: dict,
    optimizer: dict,
    loss: dict,
    seed: int,
    seeds: int,
    dtype_policy: str,
    gpus: int,
    memory_share: float,
    model: Output[Model],
    history: Output[Artifact],
    event_files: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
    summary: Output[Markdown],
) -> None:
    """Trains the model that the examples were made for, and keeps the weights of the epoch with the best val accuracy.

    Args:
        transformed_examples: The folder of shards, as transform writes it.
        transform_graph: The transform, as transform writes it; it becomes the first part of the model.
        epochs: The number of passes over train.
        batch_size: The number of images per step.
        learning_rate: The step size of the optimizer; with a schedule, its `initial_learning_rate`.
        learning_rate_schedule: A schedule of Keras as `class_name` and `config`, whose steps are batches; empty if the
            learning rate stays.
        optimizer: An optimizer of Keras, likewise.
        loss: A loss of Keras, likewise.
        seed: The same seed, 0 to 4294967196, gives the same model.
        seeds: The number of trainings, with this seed and those above it.
        dtype_policy: That of Keras for the training: float32, mixed_bfloat16 or mixed_float16. The model that is kept
            computes with float32, and is the one that is measured on val.
        gpus: How many GPUs of the machine share each batch; with 1 there need not be any.
        memory_share: The largest share of the memory that the images of train and val may take. If they take more,
            they are read from the shards in each epoch.
        model: A SavedModel whose signature `serving_default` takes encoded images, with training.json beside it, and in
            `seeds/` the models of further seeds. Its metadata holds the settings, the model's name among them, and the
            data version.
        history: A CSV file with a row of metrics per epoch of the first training.
        event_files: A folder for TensorBoard, with the same metrics and the learning rate, in `train/` and
            `validation/`; those of further seeds in `seed-<seed>/`.
        metrics: The epoch that was kept, its accuracy and loss on val, and the number of the model's weights; with
            several seeds also the mean, least and highest accuracy on val.
        report: An HTML page with the curves.
        summary: A Markdown file for Kubeflow Pipelines' page of the task.

    Raises:
        SystemExit: A setting or an input is wrong; the message says what to do.
    """
    from components.shared.cloud_storage import is_address
    from components.shared.files import find_cache_folder
    from components.shared.seeds import summarize_seeds
    from components.train.settings import TrainingSettings
    from components.train.summary import write_training_summary
    from components.train.training import train_model

    training = train_model(
        transformed_examples.path,
        transform_graph.path,
        settings=TrainingSettings(
            epochs,
            batch_size,
            learning_rate,
            seed,
            learning_rate_schedule=learning_rate_schedule,
            optimizer=optimizer,
            loss=loss,
            dtype_policy=dtype_policy,
            gpus=gpus,
        ),
        seeds=seeds,
        memory_share=memory_share,
        model_output=model.path,
        history_output=history.path,
        event_files_output=event_files.path,
        report_output=report.path,
        progress_folder=find_cache_folder("train"),
        progress_uri=model.uri.rpartition("/")[0] if is_address(model.uri) else "",
    )
    model.metadata.update(training["settings"], data_version=training["data_version"], framework="tensorflow")
    log_metrics(
        metrics,
        {
            "best_epoch": training["best_epoch"],
            "val_accuracy": training["val_accuracy"],
            "val_loss": training["val_loss"],
            "parameters": training["parameters"],
            **summarize_seeds("val_accuracy", training.get("val_accuracies", [])),
        },
    )
    write_training_summary(summary.path, training)
