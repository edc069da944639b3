"""The fixed models, by name: each is a module in models/, as docs/models.md describes it."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from components.shared.errors import UserError, cut, quote, shorten

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

T = TypeVar("T")

MODELS = Path(__file__).parents[2] / "models"
GUIDE = "docs/models.md says what a model has"
_DEFINITION = re.compile(r"^def build_model\(", re.MULTILINE)


class FixedModel(Protocol):
    """What the pipeline asks of a module in models/."""

    SIZE: tuple[int, int]  # height and width of the images that the network takes, in pixels
    CHANNELS: int  # 1 for gray, 3 for RGB

    def build_model(self, classes: int) -> "keras.Model":
        """The untrained network, from images, float32 [batch, *SIZE, CHANNELS], to logits, float32 [batch, classes]."""

    def preprocessing_fn(self, inputs: "dict[str, tf.Tensor]") -> "dict[str, tf.Tensor]":
        """The images and labels of a batch of examples, as models/preprocessing.py names them."""


def list_models() -> list[str]:
    """The names of the models: of each file in models/ that defines `build_model`. It imports none of them."""
    files = [file for file in sorted(MODELS.glob("[!_]*.py")) if file.is_file() and file.stem.isidentifier()]
    return [file.stem for file in files if _DEFINITION.search(file.read_text(encoding="utf-8", errors="replace"))]


def load_model(name: str) -> FixedModel:
    """Imports a model.

    Raises:
        UserError: There is none of that name, or it is not as the guide says.
    """
    if name not in (known := list_models()):
        raise UserError(f"model is '{cut(name)}'; it must be {' or '.join(known)}, the files of models/.")
    path = f"models/{name}.py"
    try:
        module = call_model(path, lambda: importlib.import_module(f"models.{name}"))
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: is not Python ({error.msg}); correct it.") from None
    for needed in ("SIZE", "CHANNELS", "build_model", "preprocessing_fn"):
        if not hasattr(module, needed):
            raise UserError(f"{path}: has no {needed}; {GUIDE}.")
    size = module.SIZE
    if not (isinstance(size, tuple) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        raise UserError(f"{path}: SIZE is {quote(size)}; it must be (HEIGHT, WIDTH) in pixels.")
    if type(module.CHANNELS) is not int or module.CHANNELS not in (1, 3):
        raise UserError(f"{path}: CHANNELS is {quote(module.CHANNELS)}; it must be 1 (gray) or 3 (RGB).")
    return cast(FixedModel, module)


def call_model(place: str, action: Callable[[], T]) -> T:
    """Calls what somebody has written in a model's file.

    Args:
        place: The file, and the function, for the message.
        action: The call.

    Raises:
        UserError: It raises something; it says what.
        SyntaxError: It is no Python.
    """
    try:
        return action()
    except (UserError, SyntaxError):
        raise
    except (Exception, SystemExit) as error:  # of another's code, anything
        raise UserError(f"{place}: raises {type(error).__name__} ({shorten(error)}); {GUIDE}.") from None
