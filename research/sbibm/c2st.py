"""The classifier two-sample test: the accuracy with which a classifier tells two samples apart; 0.5 is perfect.

D. Lopez-Paz and M. Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017, as J.-M. Lueckmann et al. ("Benchmarking
Simulation-based Inference", AISTATS 2021, appendix A) define it: a perceptron with two hidden layers of 10 units a
dimension, five folds, both samples standardised by the moments of the reference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FOLDS, UNITS, SEED = 5, 10, 1


def c2st(reference: NDArray[np.float64], samples: NDArray[np.float64]) -> float:
    """Return the mean accuracy over the folds; `reference` and `samples` are ``(N, n)`` and ``(M, n)``."""
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    centre, spread = reference.mean(0), reference.std(0, ddof=1)
    both = np.concatenate([(reference - centre) / spread, (samples - centre) / spread]).astype(np.float32)
    which = np.concatenate([np.zeros(len(reference)), np.ones(len(samples))])
    hidden = (UNITS * reference.shape[1],) * 2
    classifier = MLPClassifier(hidden, activation="relu", solver="adam", max_iter=10_000, random_state=SEED)
    folds = KFold(FOLDS, shuffle=True, random_state=SEED)
    return float(cross_val_score(classifier, both, which, cv=folds, scoring="accuracy").mean())
