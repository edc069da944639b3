"""Which training images to look at first: those whose label the model doubts although it has learned it."""

from typing import NamedTuple

import pandas as pd

from components.shared.formats import predictions as columns
from components.shared.formats.predictions import name_probability

MOST_CONTRADICTED = 0.5  # share of its own training images; a model that contradicts more has learned too little


class DoubtedImages(NamedTuple):
    """The training images that the model gives another label."""

    rows: pd.DataFrame  # predictions, the most doubted first; none if the list would mean nothing
    contradicted: int  # how many there are
    images: int  # all that were ranked

    @property
    def has_learned(self) -> bool:
        """Whether the model has learned enough for what it contradicts to be mostly faults of the images."""
        return self.contradicted <= MOST_CONTRADICTED * self.images


def rank_doubted(train: pd.DataFrame) -> DoubtedImages:
    """Ranks the training images that the model contradicts by its self-confidence, adjusted by class.

    That is the probability of the given label less the mean probability of this label over the images that have it
    (Northcutt et al., Confident Learning, 2021, section 3): a class that the model is generally unsure of does not fill
    the list with good images.

    Args:
        train: The predictions of images of the train split, with the probabilities of the classes.

    Returns:
        The images.
    """
    given = pd.Series(0.0, index=train.index)
    for label, images in train.groupby(columns.LABEL):
        given[images.index] = images[name_probability(label)]
    doubt = given.groupby(train[columns.LABEL]).transform("mean") - given
    contradicted = train[columns.LABEL] != train[columns.PREDICTION]
    order = doubt[contradicted].sort_values(ascending=False, kind="stable").index
    doubted = DoubtedImages(train.loc[order], int(contradicted.sum()), len(train))
    return doubted if doubted.has_learned else doubted._replace(rows=train.iloc[:0])
