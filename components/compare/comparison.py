"""Two evaluations, the one of a data version and the one of the version before: what changed.

The yardstick is the val and test images of the version before with the labels they had: both models have predicted
them, so every figure is a difference of pairs. `comparison.json` holds everything:

    {"before": {"data_version": "<md5>.dir", "trained_on": "<md5>.dir", "settings": {"epochs": 50, ...}},
     "after": {likewise},
     "classes": ["i", "ii", ...],
     "confidence_level": 0.95, "resamples": 2000, "seed": 1,
     "splits": {"val": SPLIT, "test": SPLIT},     # in this order; one without images is left out
     "data": DATA}

    CHANGE = {"before": 0.691, "after": 0.842, "change": 0.151, "low": 0.12, "high": 0.18}
        # low and high bound the change: a percentile bootstrap interval at the confidence level

    SPLIT = {"images": 813,
             "verdict": "On the 813 untouched val images the accuracy went from 0.691 to 0.842 (+0.151, ...).",
             "accuracy": CHANGE,
             "newly_right": 150, "newly_wrong": 27,       # images
             "mcnemar_p": 1.2e-09,                        # exact, two-sided
             "macro_f1": CHANGE,
             "classes": {"i": {"images": 80, "recall": CHANGE, "f1": CHANGE}, ...},   # CHANGE is null without images
             "slices": [{"scalar": "pixels", "from": 14641.0, "to": 29000.0, "images": 204, "accuracy": CHANGE}, ...],
             "trained_on": {"before": 0, "after": 12},    # of the images, those whose bytes are in the train split
             "unseen": {"images": 801, "accuracy": CHANGE, "newly_right": 148, "newly_wrong": 27, "mcnemar_p": 1e-9},
                                                          # without those; null where that is all images, or none
             "new_data": {"images": 790, "accuracy": 0.85, "accuracy_interval": [0.82, 0.87], "macro_f1": 0.84,
                          "same_images": false},          # the new model on this split of the new version, which may
                                                          # hold other images or labels; null if there is no such split
             "newly_right_images": [{"filename": "val/i/a.png", "label": "i", "before": "v", "after": "i"}, ...],
             "newly_wrong_images": [likewise]}            # all, those first that the wrong model was surest of

    DATA = {"relabelled": 120, "moved": 8, "dropped": 31, "added": 0, "altered": 0, "augmented": 7000,   # images
            "relabels": [{"from": "ii", "to": "iii", "images": 9}, ...],    # the most frequent first
            "images": {"train": {"i": {"before": 200, "after": 190, "augmented_before": 0, "augmented_after": 800},
                                 ...}, ...}}              # by split and class; before and after are without augmented
        # Images are the same if their bytes are. moved: to another split; an image may be relabelled and moved.
        # altered: of other bytes, under the same name. augmented: images that curate made, in the new version.
"""
