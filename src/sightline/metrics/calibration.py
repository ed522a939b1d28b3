"""Whether a score says how often an answer is right."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.metrics.detection import Matching


class Calibration(NamedTuple):
    """Answers in bins of equal width of their scores; NaN where a bin is empty."""

    edges: NDArray[np.float64]  # [B + 1] from 0 to 1
    counts: NDArray[np.int64]  # [B]
    scores: NDArray[np.float64]  # [B] the mean
    precisions: NDArray[np.float64]  # [B] the share that is right
    error: float  # how far both lie apart, averaged over all answers; NaN without answers


def calibration(matching: Matching, bins: int = 10) -> Calibration:
    """At the first threshold of the matching; a score on an edge is in the upper bin.

    ``error`` is the expected calibration error (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", equation 3), with precision in place of accuracy.
    """
    counted = matching.counted[0]
    scores, right = matching.answers.scores[counted], matching.right()[counted]
    edges = np.linspace(0, 1, bins + 1)
    places = np.clip(np.searchsorted(edges, scores, "right") - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(places, scores, bins) / counts
        precisions = np.bincount(places, right, bins) / counts
    apart = np.nansum(counts * np.abs(means - precisions))
    error = float(apart / len(scores)) if len(scores) else float("nan")
    return Calibration(edges, counts, means, precisions, error)
