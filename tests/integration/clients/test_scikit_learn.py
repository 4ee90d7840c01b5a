"""scikit-learn on tensors: with array_api_dispatch, estimators learn from tensors and predict tensors, and agree with what
they learn from NumPy's arrays. docs/clients.md lists them, and says what does not run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import sklearn
from sklearn import (
    calibration,
    decomposition,
    discriminant_analysis,
    kernel_approximation,
    linear_model,
    metrics,
    mixture,
    model_selection,
    naive_bayes,
    pipeline,
    preprocessing,
)
from sklearn.metrics import pairwise

import corelib as cl
from corelib.errors import DTypeError, LinAlgError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4)) * [1.0, 2.0, 3.0, 4.0] + [0.0, 1.0, -1.0, 2.0]
Y = RNG.normal(size=(30, 4))
TARGET = X @ RNG.normal(size=4) + 0.1 * RNG.normal(size=30)
CLASSES, HALVES = np.arange(30) % 3, np.arange(30) % 2
SEPARATED = X + CLASSES[:, None]  # three classes that can be told apart, mostly
WEIGHTS = RNG.uniform(0.5, 1.5, 30)
PREDICTED = CLASSES * 2 % 3
SHARES = RNG.dirichlet(np.ones(3), 30)  # probabilities of three classes
SCORES = RNG.uniform(size=30)
TRUE, GUESSED = np.abs(TARGET) + 0.1, np.abs(TARGET + RNG.normal(size=30)) + 0.1


@pytest.fixture(autouse=True)
def dispatch() -> Iterator[None]:
    with sklearn.config_context(array_api_dispatch=True):
        yield


def learn(estimator, x, y=None, methods="transform"):
    """A case: fit, call the methods on what was learned from, and show the fitted attributes that are arrays."""

    def case(a):
        fitted = sklearn.clone(estimator)
        fitted.fit(*([a(x)] if y is None else [a(x), a(y)]))
        attributes = [
            value
            for name, value in sorted(vars(fitted).items())
            if name.endswith("_") and hasattr(value, "shape")
        ]
        return [getattr(fitted, method)(a(x)) for method in methods.split()] + attributes

    return case


def score(estimator, x, y=None):
    def case(a):
        operands = [a(x)] if y is None else [a(x), a(y)]
        return sklearn.clone(estimator).fit(*operands).score(*operands)

    return case


def calls(module, names, call):
    """Cases of several functions that are called alike, as ``call(function, array)``."""
    return {name: (lambda a, name=name: call(getattr(module, name), a)) for name in names.split()}


scaler, lda = preprocessing.StandardScaler, discriminant_analysis.LinearDiscriminantAnalysis
ridge, logistic = linear_model.Ridge(solver="svd"), linear_model.LogisticRegression()
PCAS = {f"PCA({solver}, whiten={whiten})": decomposition.PCA(
    2, svd_solver=solver, whiten=whiten, random_state=0, power_iteration_normalizer="QR" if solver == "randomized" else "auto")
    for solver in ("full", "covariance_eigh", "randomized") for whiten in (False, True)}  # fmt: skip
MIXTURES = {f"GaussianMixture({kind})": mixture.GaussianMixture(
    2, covariance_type=kind, init_params="random_from_data", random_state=0) for kind in ("tied", "diag", "spherical")}  # fmt: skip

ESTIMATORS = {
    "Binarizer": learn(preprocessing.Binarizer(), X),
    "FunctionTransformer": learn(preprocessing.FunctionTransformer(lambda x: x * x), X),
    "KernelCenterer": learn(preprocessing.KernelCenterer(), X[:4]),
    "LabelBinarizer": lambda a: preprocessing.LabelBinarizer().fit_transform(a(CLASSES)),
    "LabelEncoder": learn(preprocessing.LabelEncoder(), CLASSES),
    "MaxAbsScaler": learn(preprocessing.MaxAbsScaler(), X),
    "MinMaxScaler": learn(preprocessing.MinMaxScaler(), X),
    **{f"Normalizer({norm})": learn(preprocessing.Normalizer(norm), X) for norm in ("l1", "l2", "max")},
    "PolynomialFeatures": learn(preprocessing.PolynomialFeatures(2), X),
    "StandardScaler": learn(scaler(), X),
    "StandardScaler.partial_fit": lambda a: scaler().partial_fit(a(X)).partial_fit(a(Y)).transform(a(X)),
    "StandardScaler.inverse_transform": lambda a: (lambda s: s.inverse_transform(s.transform(a(X))))(
        scaler().fit(a(X), sample_weight=a(WEIGHTS))),
    **calls(preprocessing, "binarize maxabs_scale minmax_scale normalize", lambda f, a: f(a(X))),
    "label_binarize": lambda a: preprocessing.label_binarize(a(CLASSES), classes=a(np.arange(3))),
    **{name: learn(pca, X, methods="transform score_samples") for name, pca in PCAS.items()},
    **{f"PCA({n})": learn(decomposition.PCA(n, svd_solver="full"), X) for n in ("mle", 0.9)},
    "PCA.get_covariance": lambda a: decomposition.PCA(2, svd_solver="full").fit(a(X)).get_covariance(),
    "PCA.inverse_transform": lambda a: (lambda p: p.inverse_transform(p.transform(a(X))))(
        decomposition.PCA(2, svd_solver="full").fit(a(X))),
    "Nystroem": learn(kernel_approximation.Nystroem(n_components=10, random_state=0), X),
    "Ridge": learn(ridge, X, TARGET, "predict"),
    "RidgeCV": learn(linear_model.RidgeCV(), X, TARGET, "predict"),
    "RidgeClassifier": learn(linear_model.RidgeClassifier(solver="svd"), SEPARATED, CLASSES, "predict decision_function"),
    "RidgeClassifierCV": learn(linear_model.RidgeClassifierCV(), SEPARATED, CLASSES, "predict decision_function"),
    "LogisticRegression": learn(logistic, SEPARATED, CLASSES, "predict predict_proba decision_function"),
    "LogisticRegression(two classes)": learn(logistic, SEPARATED, HALVES, "predict predict_proba decision_function"),
    "PoissonRegressor": learn(linear_model.PoissonRegressor(), X, TRUE, "predict"),
    "LinearDiscriminantAnalysis": learn(lda(), SEPARATED, CLASSES, "predict predict_proba transform"),
    "GaussianNB": learn(naive_bayes.GaussianNB(), SEPARATED, CLASSES, "predict predict_proba predict_log_proba"),
    **{name: learn(model, X, methods="predict predict_proba score_samples") for name, model in MIXTURES.items()},
    "CalibratedClassifierCV": learn(
        calibration.CalibratedClassifierCV(lda(), method="temperature", cv=3), SEPARATED, CLASSES, "predict_proba"),
    "Pipeline": learn(pipeline.make_pipeline(scaler(), decomposition.PCA(2, svd_solver="full"), ridge), X, TARGET, "predict"),
    "Pipeline(classifier)": learn(pipeline.make_pipeline(scaler(), lda()), SEPARATED, CLASSES, "predict predict_proba"),
    "GridSearchCV": lambda a: model_selection.GridSearchCV(ridge, {"alpha": [0.1, 1.0, 10.0]}, cv=3).fit(a(X), a(TARGET)).predict(a(X)),
    "cross_val_predict": lambda a: model_selection.cross_val_predict(ridge, a(X), a(TARGET), cv=3),
    "cross_val_predict(classifier)": lambda a: model_selection.cross_val_predict(lda(), a(SEPARATED), a(CLASSES), cv=3),
    "train_test_split": lambda a: model_selection.train_test_split(a(X), a(TARGET), random_state=0),
    "labels in NumPy": lambda a: sklearn.clone(ridge).fit(a(X), TARGET).predict(a(X)),
}  # fmt: skip

SCORES_OF = {
    "Ridge.score": score(ridge, X, TARGET),
    "LogisticRegression.score": score(logistic, SEPARATED, CLASSES),
    "LinearDiscriminantAnalysis.score": score(lda(), SEPARATED, CLASSES),
    "PCA.score": score(decomposition.PCA(2, svd_solver="full"), X),
    "GaussianMixture.score": score(MIXTURES["GaussianMixture(diag)"], X),
    "PoissonRegressor.score": score(linear_model.PoissonRegressor(), X, TRUE),
}

METRICS = {
    **calls(metrics, "accuracy_score balanced_accuracy_score cohen_kappa_score confusion_matrix hamming_loss multilabel_confusion_matrix "
            "zero_one_loss", lambda f, a: f(a(CLASSES), a(PREDICTED))),
    **calls(metrics, "f1_score jaccard_score precision_score recall_score", lambda f, a: f(a(CLASSES), a(PREDICTED), average=None)),
    "fbeta_score": lambda a: metrics.fbeta_score(a(CLASSES), a(PREDICTED), average="macro", beta=0.5),
    "accuracy_score(sample_weight)": lambda a: metrics.accuracy_score(
        a(CLASSES), a(PREDICTED), sample_weight=a(WEIGHTS), normalize=False),
    "classification_report": lambda a: metrics.classification_report(
        a(CLASSES), a(PREDICTED), target_names=["red", "green", "blue"], zero_division=0),
    **calls(metrics, "average_precision_score brier_score_loss d2_brier_score d2_log_loss_score det_curve log_loss precision_recall_curve",
            lambda f, a: f(a(HALVES), a(SCORES))),
    "roc_curve": lambda a: metrics.roc_curve(a(HALVES), a(SCORES), drop_intermediate=False),
    "log_loss(three classes)": lambda a: metrics.log_loss(a(CLASSES), a(SHARES)),
    "brier_score_loss(three classes)": lambda a: metrics.brier_score_loss(a(CLASSES), a(SHARES)),
    **calls(metrics, "d2_absolute_error_score d2_pinball_score d2_tweedie_score explained_variance_score max_error mean_absolute_error "
            "mean_absolute_percentage_error mean_gamma_deviance mean_pinball_loss mean_poisson_deviance mean_squared_error "
            "mean_squared_log_error mean_tweedie_deviance median_absolute_error r2_score root_mean_squared_error "
            "root_mean_squared_log_error", lambda f, a: f(a(TRUE), a(GUESSED))),
    **{f"{name}(raw_values)": (lambda a, name=name: getattr(metrics, name)(a(X), a(Y), multioutput="raw_values"))
       for name in ("explained_variance_score", "mean_absolute_error", "mean_squared_error", "r2_score", "root_mean_squared_error")},
    **calls(pairwise, "additive_chi2_kernel chi2_kernel cosine_distances cosine_similarity euclidean_distances laplacian_kernel "
            "linear_kernel manhattan_distances paired_cosine_distances paired_euclidean_distances paired_manhattan_distances "
            "pairwise_distances pairwise_distances_argmin pairwise_kernels polynomial_kernel rbf_kernel sigmoid_kernel",
            lambda f, a: f(a(np.abs(X)), a(np.abs(Y)))),
}  # fmt: skip

# What is refused, by what words.
REFUSED = {
    "GaussianMixture(full)": (
        learn(mixture.GaussianMixture(2, init_params="random_from_data", random_state=0), X, methods="predict"),
        LinAlgError, "cholesky: x is not positive definite"),
    "LinearRegression": (learn(linear_model.LinearRegression(), X, TARGET, "predict"), DTypeError, "x must be a Tensor, got numpy"),
    "PCA(arpack)": (learn(decomposition.PCA(2, svd_solver="arpack"), X), ValueError, "not supported for Array API inputs"),
    "Ridge(cholesky)": (learn(linear_model.Ridge(solver="cholesky"), X, TARGET, "predict"), ValueError, "only supports solver 'svd'"),
    "RobustScaler": (learn(preprocessing.RobustScaler(), X), DTypeError, "must be a Tensor, got numpy"),
    "compute_class_weight": (
        lambda a: sklearn.utils.class_weight.compute_class_weight("balanced", classes=a(np.arange(3)), y=a(CLASSES)),
        ValueError, "must be an instance of 'numpy.ndarray'"),
    "nan_euclidean_distances": (lambda a: pairwise.nan_euclidean_distances(a(X), a(Y)), DTypeError, "must be a Tensor, got numpy"),
    "roc_auc_score": (lambda a: metrics.roc_auc_score(a(HALVES), a(SCORES)), TypeError, "diff"),
    "roc_curve": (lambda a: metrics.roc_curve(a(HALVES), a(SCORES)), TypeError, "diff"),
    "scale": (lambda a: preprocessing.scale(a(X)), ValueError, "read-only"),
}  # fmt: skip

# Sums over 30 samples, in another order than NumPy's, and a few dozen operations besides, each rounding once.
ULP = 64
BOUNDS = {
    "Ridge": 2**10,  # the intercept is what is left of means a hundred times as large
    "RidgeCV": 2**10,
    "LogisticRegression": 2
    ** 14,  # 20 steps of L-BFGS, through which rounding grows with the problem's conditioning
    "LogisticRegression(two classes)": 2**14,
}
# What scikit-learn computes in the namespace's default floating dtype, from labels: float32 here, float64 in NumPy.
NARROW = {
    "CalibratedClassifierCV", "LogisticRegression.score", "LinearDiscriminantAnalysis.score", "accuracy_score",
    "balanced_accuracy_score", "d2_log_loss_score", "hamming_loss", "jaccard_score", "precision_score", "recall_score", "zero_one_loss",
}  # fmt: skip


@pytest.mark.parametrize("name", [*ESTIMATORS, *SCORES_OF, *METRICS])
def test_it_agrees_with_numpy(name, agree):
    agree({**ESTIMATORS, **SCORES_OF, **METRICS}[name], ulp=BOUNDS.get(name, ULP), narrow=name in NARROW)


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_run(name, device):
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        call(cl.asarray)


DIFFERENTIABLE = {
    "PCA.transform": lambda x, y: decomposition.PCA(2, svd_solver="full").fit(y).transform(x) ** 2,
    "StandardScaler.transform": lambda x, y: scaler().fit(y).transform(x) ** 2,
    "Normalizer": lambda x, y: preprocessing.Normalizer().fit_transform(x) * y,
    "PolynomialFeatures": lambda x, y: preprocessing.PolynomialFeatures(2).fit_transform(x),
    "cosine_similarity": lambda x, y: pairwise.cosine_similarity(x, y),
    "mean_squared_error": lambda x, y: metrics.mean_squared_error(y, x, multioutput="raw_values"),
    "r2_score": lambda x, y: metrics.r2_score(y, x, multioutput="raw_values"),
    "rbf_kernel": lambda x, y: pairwise.rbf_kernel(x, y),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_those_of_finite_differences(name, device):
    x, y = cl.asarray(X[:5]), cl.asarray(Y[:5])
    assert cl.gradcheck(lambda x: DIFFERENTIABLE[name](x, y).sum(), [x])


def test_a_metric_that_returns_a_number_ends_the_graph(device):
    x = cl.asarray(TRUE).requires_grad_()
    assert type(metrics.mean_squared_error(cl.asarray(GUESSED), x)) is float


def test_the_page_lists_what_runs(listed):
    assert listed("scikit-learn", "runs") == {
        name.split("(")[0] for name in {**ESTIMATORS, **METRICS} if "NumPy" not in name
    }
    assert listed("scikit-learn", "does not run") == set(REFUSED)


def test_the_fit_of_a_standard_scaler_has_no_derivative(device):
    """It divides 0 by 0 and overwrites the quotient: the cotangent of 0 times infinity stays."""
    x = cl.asarray(X[:5]).requires_grad_()
    (scaler().fit_transform(x) ** 3).sum().backward()
    assert cl.any(cl.isnan(x.grad))
