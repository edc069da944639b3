"""The trained model: a SavedModel with one signature, which takes encoded images.

Its input is `image_bytes`, string [batch], PNG or JPEG. Its outputs are `probabilities`, float32 [batch, classes];
`label`, int64 [batch], the most probable class; and `class`, string [batch], the name of that class. What it was
trained on is in training.json beside it (see training.py).
"""

SIGNATURE = "serving_default"
IMAGE_BYTES = "image_bytes"
PROBABILITIES = "probabilities"
LABEL = "label"
CLASS = "class"
