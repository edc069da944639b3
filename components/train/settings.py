"""How the model learns: numbers, and objects of Keras by their names."""

import inspect
import json
import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

from components.shared.errors import UserError, cut, name_unknown, quote, shorten_to_sentence
from components.shared.formats.training import Settings

KerasObject = dict[str, Any]  # class_name and perhaps config, as Keras writes them

# Those whose probabilities are a softmax of what the model gives, as the exported model has it.
LOSSES = ("CategoricalCrossentropy", "CategoricalFocalCrossentropy", "SparseCategoricalCrossentropy")
DTYPE_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
MOST_GPUS = 16  # of a machine

LARGEST_SEED = 2**32 - 100  # the last of a hundred seeds that begin with it has 32 bits, which is all that NumPy takes
RATED_STEPS = (0, 1, 1_000, 1_000_000)  # at which a schedule is tried


class TrainingSettings(NamedTuple):
    """The parameters of the component (component.py), which describes each."""

    epochs: int
    batch_size: int  # images
    learning_rate: float
    seed: int
    learning_rate_schedule: KerasObject = {}
    optimizer: KerasObject = {"class_name": "Adam"}
    loss: KerasObject = {"class_name": "SparseCategoricalCrossentropy"}
    dtype_policy: str = "float32"
    gpus: int = 1  # that share each batch

    def describe(self) -> Settings:
        """The settings as the formats have them, without what has no effect, and without usual devices and types."""
        unused = [] if self.learning_rate_schedule else ["learning_rate_schedule"]
        unused += [] if self.has_learning_rate else ["learning_rate"]
        unused += [name for name in ("dtype_policy", "gpus") if getattr(self, name) == self._field_defaults[name]]
        return {
            name: _describe(value) if isinstance(value, dict) else value
            for name, value in self._asdict().items()
            if name not in unused
        }

    @property
    def has_learning_rate(self) -> bool:
        """Whether `learning_rate` has an effect: schedules such as PiecewiseConstantDecay have rates of their own."""
        return not self.learning_rate_schedule or _takes_initial(self.learning_rate_schedule)

    @property
    def takes_labels(self) -> bool:
        """Whether the loss takes labels as they are, and not one-hot."""
        return str(self.loss.get("class_name")).startswith("Sparse")


def check_settings(settings: TrainingSettings) -> None:
    """Tries the settings, without a model or data.

    Raises:
        UserError: One is out of range, or is no object of Keras.
    """
    for name in ("epochs", "batch_size", "learning_rate"):
        value = getattr(settings, name)
        if not 0 < value < math.inf:
            raise UserError(f"{name} is {value}; it must be greater than 0{' and finite' if value > 0 else ''}.")
    if not 0 <= settings.seed <= LARGEST_SEED:
        raise UserError(f"seed is {settings.seed}; it must be from 0 to {LARGEST_SEED}.")
    if settings.dtype_policy not in DTYPE_POLICIES:
        raise UserError(f"dtype_policy is '{cut(settings.dtype_policy)}'; it must be {' or '.join(DTYPE_POLICIES)}.")
    if not 1 <= settings.gpus <= MOST_GPUS or settings.batch_size % settings.gpus:
        raise UserError(
            f"gpus is {settings.gpus}; it must be from 1 to {MOST_GPUS}, and batch_size, which is "
            f"{settings.batch_size}, a multiple of it."
        )
    for parameter in ("optimizer", "loss", "learning_rate_schedule"):
        _check_form(parameter, getattr(settings, parameter))
    _try("optimizer", settings.optimizer, lambda: _take_step(make_optimizer(settings)))
    make_loss(settings)


def check_loss(settings: TrainingSettings, classes: int) -> None:
    """Tries the loss on so many classes.

    Raises:
        UserError: Keras does not take it, such as a list of another length.
    """
    loss = make_loss(settings)
    labels = np.arange(classes)
    given = labels if settings.takes_labels else np.eye(classes, dtype=np.float32)
    _try("loss", settings.loss, lambda: loss(given, np.zeros((classes, classes), np.float32)))


def make_optimizer(settings: TrainingSettings) -> keras.Optimizer:
    """The optimizer, with its learning rate or schedule.

    Raises:
        UserError: Keras does not take it.
    """
    kinds = _list_kinds(keras.optimizers, keras.Optimizer)
    if "learning_rate" in settings.optimizer.get("config", {}):
        raise UserError(
            "optimizer: config has learning_rate; leave it out, and set train's learning_rate or its schedule."
        )
    rate = _make_schedule(settings) if settings.learning_rate_schedule else settings.learning_rate
    optimizer: keras.Optimizer = _make("optimizer", settings.optimizer, kinds, learning_rate=rate)
    return optimizer


def make_loss(settings: TrainingSettings) -> keras.losses.Loss:
    """The loss, which takes logits.

    Raises:
        UserError: Keras does not take it.
    """
    if settings.loss.get("config", {}).get("from_logits") is False:
        raise UserError("loss: config has from_logits false; leave that out, since the models give logits.")
    kinds = {name: getattr(keras.losses, name) for name in LOSSES}
    loss: keras.losses.Loss = _make("loss", settings.loss, kinds, from_logits=True)
    return loss


def _describe(given: KerasObject) -> str:
    config = _shorten_numbers(given.get("config"))
    return f"{given['class_name']} {json.dumps(config, sort_keys=True)}" if config else str(given["class_name"])


def _shorten_numbers(value: Any) -> Any:
    """The same with 100 for 100.0: within objects, Kubeflow Pipelines hands on integers as floats."""
    if isinstance(value, dict):
        return {name: _shorten_numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_shorten_numbers(each) for each in value]
    return _restore_integer(value)


def _restore_integer(value: Any) -> Any:
    """An integer for a whole number, as Kubeflow Pipelines hands on integers as floats; lists stay as they are."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _make_schedule(settings: TrainingSettings) -> LearningRateSchedule:
    kinds = _list_kinds(keras.optimizers.schedules, LearningRateSchedule)
    given = settings.learning_rate_schedule
    if "initial_learning_rate" in given.get("config", {}):
        raise UserError(
            "learning_rate_schedule: config has initial_learning_rate; leave it out, and set train's learning_rate."
        )
    initial = {"initial_learning_rate": settings.learning_rate} if settings.has_learning_rate else {}
    schedule: LearningRateSchedule = _make("learning_rate_schedule", given, kinds, **initial)
    rates = _try("learning_rate_schedule", given, lambda: [float(schedule(step)) for step in RATED_STEPS])
    for step, rate in zip(RATED_STEPS, rates, strict=True):
        if not 0 <= rate < math.inf:
            raise UserError(f"learning_rate_schedule: gives {rate:g} at step {step:,}; it must be 0 or more.")
    return schedule


def _takes_initial(schedule: KerasObject) -> bool:
    kind = _list_kinds(keras.optimizers.schedules, LearningRateSchedule).get(schedule.get("class_name", ""))
    return kind is not None and "initial_learning_rate" in inspect.signature(kind).parameters


def _list_kinds(module: Any, base: type) -> dict[str, type]:
    """The classes of a module of Keras by their names, without their base."""
    classes = {name: value for name, value in vars(module).items() if inspect.isclass(value)}
    return {name: kind for name, kind in classes.items() if issubclass(kind, base) and kind is not base}


def _make(parameter: str, given: KerasObject, kinds: dict[str, Any], **own: Any) -> Any:
    """An object of Keras: `own` are arguments that the config need not have."""
    config = {name: _restore_integer(value) for name, value in given.get("config", {}).items()}
    if given["class_name"] not in kinds:
        raise UserError(name_unknown(f"{parameter}: the class_name", str(given["class_name"]), sorted(kinds)))
    return _try(parameter, given, lambda: kinds[given["class_name"]](**{**own, **config}))


def _check_form(parameter: str, given: KerasObject) -> None:
    if not given and parameter == "learning_rate_schedule":
        return
    if "class_name" not in given:
        raise UserError(f'{parameter}: has no class_name; write it as Keras does, such as {{"class_name": "NAME"}}.')
    if others := [name for name in given if name not in ("class_name", "config", "module", "registered_name")]:
        raise UserError(f"{parameter}: has {quote(others[0])} beside class_name and config; put it into config.")
    if not isinstance(config := given.get("config", {}), dict):
        raise UserError(f"{parameter}: config is {quote(config)}; it must hold names with values.")


def _try(parameter: str, given: KerasObject, action: Any) -> Any:
    try:
        return action()
    except UserError:
        raise
    except Exception as error:  # Keras refuses arguments in many ways
        name = given.get("class_name")
        raise UserError(f"{parameter}: Keras does not take this {name} ({shorten_to_sentence(error)}).") from None


def _take_step(optimizer: keras.Optimizer) -> None:
    """Finds values that Keras looks at only when it uses them."""
    weight = keras.Variable(np.zeros(1, np.float32))
    optimizer.build([weight])
    optimizer.apply([keras.ops.ones(1)])
