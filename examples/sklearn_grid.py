"""A corelib network as a scikit-learn estimator: in a pipeline, in a grid search, and for regression.

``CorelibClassifier`` and ``CorelibRegressor`` are all that it takes: ``fit`` and ``predict`` over a network of two
layers, with the parameters that scikit-learn may set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from common import compare, options
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.datasets import load_diabetes, load_wine
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import corelib as cl
from corelib import data, nn, optim, train


class _Estimator(BaseEstimator):
    """What both share: a network of one hidden layer, trained with AdamW."""

    def __init__(
        self,
        hidden: int = 32,
        epochs: int = 20,
        lr: float = 0.01,
        weight_decay: float = 0.01,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        self.hidden, self.epochs, self.lr, self.weight_decay = hidden, epochs, lr, weight_decay
        self.batch_size, self.seed = batch_size, seed

    def _train(self, x: np.ndarray, y: np.ndarray, outputs: int, loss: Any) -> None:
        cl.random.seed(self.seed)
        self.n_features_in_ = x.shape[1]
        self.model_ = nn.Sequential(
            nn.Linear(x.shape[1], self.hidden), nn.ReLU(), nn.Linear(self.hidden, outputs)
        )
        optimizer = optim.AdamW(self.model_.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        batches = data.DataLoader(
            data.TensorDataset(cl.asarray(np.asarray(x, "float32")), cl.asarray(y)),
            self.batch_size,
            shuffle=True,
        )
        train.Trainer(self.model_, optimizer, loss, progress=False, log_every=1000).fit(batches, self.epochs)

    def _outputs(self, x: np.ndarray) -> np.ndarray:
        with cl.no_grad():
            return self.model_(cl.asarray(np.asarray(x, "float32"))).numpy()


class CorelibClassifier(ClassifierMixin, _Estimator):
    """Classification by cross-entropy."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> CorelibClassifier:
        """Train; returns itself."""
        self.classes_, numbers = np.unique(y, return_inverse=True)
        self._train(X, numbers.astype("int64"), len(self.classes_), cl.cross_entropy)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """The probability of each class."""
        logits = self._outputs(X).astype("float64")
        parts = np.exp(logits - logits.max(axis=1, keepdims=True))
        return parts / parts.sum(axis=1, keepdims=True)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable class."""
        return self.classes_[self._outputs(X).argmax(axis=1)]


class CorelibRegressor(RegressorMixin, _Estimator):
    """Regression by the mean square error of the standardised target."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> CorelibRegressor:
        """Train; returns itself."""
        self.mean_, self.scale_ = float(np.mean(y)), float(np.std(y)) or 1.0
        self._train(X, ((y - self.mean_) / self.scale_).astype("float32")[:, None], 1, cl.mse_loss)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The target."""
        return self._outputs(X)[:, 0] * self.scale_ + self.mean_


def torch_fit(x: np.ndarray, y: np.ndarray, epochs: int) -> Callable[[], Any]:
    """Training of the classifier's network in PyTorch, in batches of 32."""
    import torch

    inputs, labels = torch.tensor(np.asarray(x, "float32")), torch.tensor(y)

    def run() -> None:
        net = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
        for _ in range(epochs):
            for part in torch.randperm(len(labels)).split(32):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(net(inputs[part]), labels[part]).backward()
                optimizer.step()

    return run


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run; the result."""
    given = options(__doc__, argv, epochs=20)
    started = time.perf_counter()
    x, y = load_wine(return_X_y=True)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), CorelibClassifier(epochs=given.epochs)),
        {"corelibclassifier__hidden": [4, 32], "corelibclassifier__lr": [0.001, 0.01]},
        cv=3,
    ).fit(x, y)
    print(f"wine: {search.best_score_:.1%} by cross-validation with {search.best_params_}")
    x_, y_ = load_diabetes(return_X_y=True)
    network = make_pipeline(
        StandardScaler(), CorelibRegressor(hidden=16, epochs=given.epochs, lr=0.003, weight_decay=1.0)
    )
    scores = {
        name: float(cross_val_score(model, x_, y_, cv=3).mean())
        for name, model in (("network", network), ("ridge", Ridge()))
    }
    print("diabetes: R2 by cross-validation " + ", ".join(f"{n} {s:.3f}" for n, s in scores.items()))
    print(f"{time.perf_counter() - started:.1f} s on {given.backend}")
    one = CorelibClassifier(epochs=given.epochs)
    compare(given, lambda: one.fit(x, y), lambda: torch_fit(x, y, given.epochs), "fit of the wines")
    return {"wine": float(search.best_score_), "diabetes": scores["network"], "ridge": scores["ridge"]}


if __name__ == "__main__":
    found = main()
    assert found["wine"] > 0.95
    assert found["diabetes"] > 0.4
