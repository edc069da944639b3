from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.shared.errors import exit_on_user_error


@exit_on_user_error
def train(
    transformed_examples: Input[Dataset],
    transform_graph: Input[Artifact],
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    model: Output[Model],
    history: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
) -> None:
    from components.train.training import TrainingSettings, train_model

    settings = TrainingSettings(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    training = train_model(
        transformed_examples.path, transform_graph.path, settings, model.path, history.path, report.path
    )
    model.metadata.update(training["settings"], data_version=training["data_version"], framework="tensorflow")
    for name in ("best_epoch", "val_accuracy", "val_loss", "parameters"):
        metrics.log_metric(name, training[name])
