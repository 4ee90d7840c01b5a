"""SciPy on tensors. With SCIPY_ARRAY_API=1, the functions that SciPy declares for other libraries than NumPy run, and
agree with what they give for NumPy's arrays. docs/clients.md lists them, and says what does not run."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import (
    constants,
    differentiate,
    fft,
    integrate,
    interpolate,
    linalg,
    ndimage,
    optimize,
    signal,
    spatial,
    special,
    stats,
)
from scipy.cluster import hierarchy, vq
from scipy.optimize import elementwise
from scipy.signal import windows

import corelib as cl
from corelib.errors import DTypeError, GradientError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 6, 4))
Z = X + 1j * Y
P = np.abs(X) + 0.1  # positive
U = RNG.uniform(0.05, 0.95, size=(6, 4))  # probabilities
V, W = RNG.normal(size=(2, 12))
COUNTS = RNG.integers(0, 5, 12).astype(float)
MORE = RNG.normal(size=(20, 3))  # what the tests of normality want
OBSERVED = RNG.normal(size=(10, 2))
LINKAGE = hierarchy.linkage(OBSERVED, "ward")
SIGNAL = RNG.normal(size=(2, 40))
B, A = signal.butter(2, 0.3)
SOS = signal.butter(3, 0.3, output="sos")
TWO_POLES = np.array([1.0, -0.9, 0.14, 1.0, -0.3, 0.4])  # zeros at 0.7 and 0.2, a complex pair of poles
T, AT = np.arange(12.0), np.array([0.5, 1.5, 7.25])


MODULES = {
    "constants": constants, "fft": fft, "hierarchy": hierarchy, "interpolate": interpolate, "ndimage": ndimage, "optimize": optimize,
    "signal": signal, "special": special, "stats": stats, "windows": windows,
}  # fmt: skip


def calls(names, call):
    """Cases of several functions that are called alike, as ``call(function, array)``."""

    def case(name):
        module, function = name.rsplit(".", 1)
        return lambda a: call(getattr(MODULES[module], function), a)

    return {name: case(name) for name in names.split()}


def spaced(module, names):
    return " ".join(f"{module}.{name}" for name in names.split())


def mean(x, axis=-1):
    return stats.tmean(x, axis=axis)


def difference(x, y, axis=-1):
    return mean(x, axis=axis) - mean(y, axis=axis)


def samples(a):
    return lambda size: a(np.random.default_rng(1).normal(size=size))


def namespace(x):
    return cl if isinstance(x, cl.Tensor) else np


def moduli(zpk):
    """Roots come in no particular order, and NumPy's are real where they can be."""
    zeros, poles, gain = zpk
    xp = namespace(zeros)
    return xp.sort(xp.abs(zeros)), xp.sort(xp.abs(poles)), gain


# In corelib's own functions from operand to result, so that gradients pass, too.
GENERIC = {
    **calls("special.log_softmax special.logsumexp special.softmax", lambda f, a: f(a(X), axis=1)),
    **calls("special.rel_entr special.xlogy", lambda f, a: f(a(P), a(U))),
    "special.logsumexp(b=, return_sign=)": lambda a: special.logsumexp(a(X), axis=1, b=a(Y), return_sign=True),
    **calls(
        spaced("stats", "circmean circstd circvar describe differential_entropy gmean gstd gzscore hmean iqr kstat kstatvar kurtosis lmoment "
        "median_abs_deviation mode moment rankdata sem sigmaclip skew tmax tmean tmin tsem tstd tvar variation zscore"),
        lambda f, a: f(a(P)),
    ),
    **calls("stats.boxcox_llf stats.yeojohnson_llf", lambda f, a: f(0.5, a(P))),
    "stats.bootstrap": lambda a: stats.bootstrap(
        (a(V),), mean, n_resamples=20, rng=np.random.default_rng(1), method="percentile").confidence_interval,
    "stats.directional_stats": lambda a: (lambda r: (r.mean_direction, r.mean_resultant_length))(stats.directional_stats(a(P))),
    "stats.false_discovery_control": lambda a: stats.false_discovery_control(a(U[:, 0])),
    "stats.monte_carlo_test": lambda a: stats.monte_carlo_test(a(V), samples(a), mean, n_resamples=20, vectorized=True).pvalue,
    "stats.permutation_test": lambda a: stats.permutation_test(
        (a(V), a(W)), difference, n_resamples=20, rng=np.random.default_rng(1), vectorized=True).pvalue,
    "stats.pmean": lambda a: stats.pmean(a(P), 2.5),
    "stats.quantile": lambda a: stats.quantile(a(V), a(np.array([0.2, 0.5]))),
    "stats.trim_mean": lambda a: stats.trim_mean(a(P), 0.2),
    "stats.zmap": lambda a: stats.zmap(a(V), a(W)),
    **calls(
        spaced("fft", "fft fft2 fftn fftshift ifft ifft2 ifftn ifftshift ihfft ihfft2 ihfftn rfft rfft2 rfftn"), lambda f, a: f(a(X))
    ),
    **calls(spaced("fft", "hfft hfft2 hfftn irfft irfft2 irfftn"), lambda f, a: f(a(Z))),
    "fft.fft(axis=, norm=)": lambda a: fft.ifft(fft.fft(a(Z), axis=0, norm="ortho"), axis=1),
    **calls("fft.fht fft.ifht", lambda f, a: f(a(V), 0.1, 0.5)),
    **calls("fft.fftfreq fft.rfftfreq", lambda f, a: f(8, 0.5, xp=namespace(a(V)))),
    **calls(
        spaced("windows", "barthann bartlett blackman blackmanharris bohman boxcar cosine exponential flattop hamming hann lanczos nuttall "
        "parzen triang tukey"),
        lambda f, a: f(8, xp=namespace(a(V))),
    ),
    **calls("signal.fftconvolve signal.oaconvolve", lambda f, a: f(a(V), a(W[:5]))),
    **calls("signal.envelope signal.hilbert signal.hilbert2", lambda f, a: f(a(SIGNAL))),
    "signal.firwin": lambda a: signal.firwin(5, a(np.array(0.3))),
    "signal.freqz": lambda a: signal.freqz(a(B), a(A), 16),
    "signal.freqz_sos": lambda a: signal.freqz_sos(a(SOS), 16),
    "signal.gauss_spline": lambda a: signal.gauss_spline(a(V), 3),
    "signal.normalize": lambda a: signal.normalize(a(B), a(A)),
    "signal.resample": lambda a: signal.resample(a(V), 20),
    "signal.sos2zpk": lambda a: moduli(signal.sos2zpk(a(TWO_POLES[None]))),
    "signal.tf2zpk": lambda a: moduli(signal.tf2zpk(a(TWO_POLES[:3]), a(TWO_POLES[3:]))),
    "signal.vectorstrength": lambda a: signal.vectorstrength(a(P[:, 0]), a(np.array(2.0))),
    "hierarchy.is_monotonic": lambda a: hierarchy.is_monotonic(a(LINKAGE)),
    "hierarchy.is_valid_linkage": lambda a: hierarchy.is_valid_linkage(a(LINKAGE)),
    "hierarchy.to_mlab_linkage": lambda a: hierarchy.to_mlab_linkage(a(LINKAGE)),
    "vq.whiten": lambda a: vq.whiten(a(OBSERVED)),
    "integrate.cubature": lambda a: integrate.cubature(
        lambda x: x[:, 0] * x[:, 1], a(np.zeros(2)), a(np.array([1.0, 2.0]))).estimate,
    "integrate.cumulative_simpson": lambda a: integrate.cumulative_simpson(a(X), dx=a(np.array(0.5)), initial=a(np.array(0.0))),
    "integrate.cumulative_trapezoid": lambda a: integrate.cumulative_trapezoid(a(X), initial=0),
    "integrate.romb": lambda a: integrate.romb(a(V[:9])),
    "integrate.tanhsinh": lambda a: integrate.tanhsinh(lambda x: x * x, a(np.array([0.0, 1.0])), a(np.array([1.0, 3.0]))).integral,
    "integrate.trapezoid": lambda a: integrate.trapezoid(a(X), dx=0.5),
    "differentiate.derivative": lambda a: differentiate.derivative(lambda x: x**3, a(V)).df,
    "differentiate.hessian": lambda a: differentiate.hessian(lambda x: x[0] ** 3 * x[1], a(V[:2])).ddf,
    "differentiate.jacobian": lambda a: differentiate.jacobian(lambda x: x**3, a(V[:3])).df,
    "elementwise.bracket_minimum": lambda a: elementwise.bracket_minimum(
        lambda x, c: (x - c) ** 2, a(np.zeros(3)), args=(a(T[1:4]),)).bracket,
    "elementwise.bracket_root": lambda a: elementwise.bracket_root(
        lambda x, c: x**3 - c, a(np.zeros(4)), a(np.full(4, 0.5)), args=(a(T[1:5]),)).bracket,
    "elementwise.find_minimum": lambda a: elementwise.find_minimum(
        lambda x, c: (x - c) ** 2, (a(np.full(3, -1.0)), a(np.full(3, 0.25)), a(np.full(3, 5.0))), args=(a(T[1:4]),)).f_x,
    "elementwise.find_root": lambda a: elementwise.find_root(
        lambda x, c: x**3 - c, (a(np.zeros(4)), a(np.full(4, 3.0))), args=(a(T[1:5]),)).x,
    **calls("optimize.rosen optimize.rosen_der optimize.rosen_hess", lambda f, a: f(a(V))),
    "optimize.rosen_hess_prod": lambda a: optimize.rosen_hess_prod(a(V), a(W)),
    **calls("constants.lambda2nu constants.nu2lambda", lambda f, a: f(a(P))),
    "constants.convert_temperature": lambda a: constants.convert_temperature(a(V), "Celsius", "Kelvin"),
    "linalg.block_diag": lambda a: linalg.block_diag(a(X), a(Y)),
    "linalg.fiedler": lambda a: linalg.fiedler(a(V)),
    "linalg.orthogonal_procrustes": lambda a: linalg.orthogonal_procrustes(a(X), a(Y)),
    "spatial.transform.Rotation": lambda a: spatial.transform.Rotation.from_euler("xyz", a(X[:, :3])).apply(a(Y[:, :3])),
}  # fmt: skip

# In part in SciPy's compiled functions, for which SciPy makes a NumPy array of the tensor and a tensor of the result.
THROUGH_NUMPY = {
    **calls(
        spaced("special", "cbrt cosdg cosm1 cotdg digamma ellipk ellipkm1 entr erf erfc erfcx erfinv exp1 exp10 exp2 expi expit "
        "exprel gamma gammaln gammasgn i0 i0e i1 i1e j0 j1 k0 k0e k1 k1e log_ndtr loggamma logit ndtr ndtri psi rgamma sinc sindg "
        "spence tandg y0 y1 zetac"),
        lambda f, a: f(a(U)),
    ),
    **calls(
        spaced("special", "betaln binom boxcox boxcox1p chdtr chdtrc chdtri gammainc gammaincc gammainccinv gammaincinv huber inv_boxcox "
        "inv_boxcox1p kl_div poch pseudo_huber stdtr stdtrit xlog1py"),
        lambda f, a: f(a(P), a(U)),
    ),
    **calls(
        spaced("special", "betainc betaincc betaincinv fdtr fdtrc fdtri gdtr gdtrc hyp1f1 radian"), lambda f, a: f(a(P + 1), a(P), a(U))
    ),
    **calls(spaced("special", "bdtr bdtrc bdtri nbdtr nbdtrc nbdtri"), lambda f, a: f(a(np.full((6, 4), 2)), a(np.full((6, 4), 4)), a(U))),
    **calls("special.expn special.pdtr special.pdtrc special.pdtri special.polygamma", lambda f, a: f(a(np.full((6, 4), 2.0)), a(U))),
    "special.multigammaln": lambda a: special.multigammaln(a(P + 3), 2),
    "special.zeta": lambda a: special.zeta(a(P + 1.5), a(P)),
    **calls("stats.entropy stats.jarque_bera", lambda f, a: f(a(P))),
    **calls("stats.kurtosistest stats.normaltest stats.skewtest", lambda f, a: f(a(MORE))),
    **calls(
        spaced("stats", "alexandergovern bartlett epps_singleton_2samp f_oneway levene pearsonr ttest_ind ttest_rel"),
        lambda f, a: (lambda r: (r.statistic, r.pvalue))(f(a(V), a(W))),
    ),
    "stats.chisquare": lambda a: stats.chisquare(a(np.array([16.0, 18, 16, 14, 12, 12]))),
    "stats.combine_pvalues": lambda a: stats.combine_pvalues(a(U[:, 0])),
    **calls("stats.cramervonmises stats.ks_1samp", lambda f, a: (lambda r: (r.statistic, r.pvalue))(f(a(V), special.ndtr))),
    "stats.power_divergence": lambda a: stats.power_divergence(a(P[:, 0])),
    "stats.ttest_1samp": lambda a: (lambda r: (r.statistic, r.pvalue))(stats.ttest_1samp(a(V), 0.1)),
    "stats.ttest_ind_from_stats": lambda a: stats.ttest_ind_from_stats(a(X[0]), a(P[0]), 12, a(X[1]), a(P[1]), 15),
    **calls(spaced("fft", "dct dctn dst dstn idct idctn idst idstn"), lambda f, a: f(a(X))),
    **calls("signal.convolve signal.correlate signal.upfirdn", lambda f, a: f(a(V), a(W))),
    **calls("signal.convolve2d signal.correlate2d", lambda f, a: f(a(X), a(Y))),
    **calls("signal.cspline1d signal.qspline1d", lambda f, a: f(a(V))),
    **calls("signal.filtfilt signal.lfilter", lambda f, a: f(a(B), a(A), a(SIGNAL))),
    **calls("signal.bilinear signal.lfilter_zi signal.tf2sos", lambda f, a: f(a(B), a(A))),
    **calls("signal.sos2tf signal.sosfilt_zi", lambda f, a: f(a(SOS))),
    "signal.detrend": lambda a: signal.detrend(a(SIGNAL)),
    "signal.deconvolve": lambda a: signal.deconvolve(a(V), a(W[:3])),
    "signal.group_delay": lambda a: signal.group_delay((a(B), a(A)), 16),
    "signal.medfilt": lambda a: signal.medfilt(a(V), 3),
    "signal.medfilt2d": lambda a: signal.medfilt2d(a(X), 3),
    "signal.order_filter": lambda a: signal.order_filter(a(X), a(np.ones((3, 3))), 1),
    "signal.resample_poly": lambda a: signal.resample_poly(a(V), 3, 2),
    "signal.savgol_filter": lambda a: signal.savgol_filter(a(SIGNAL), 5, 2),
    "signal.wiener": lambda a: signal.wiener(a(X), 3),
    "vq.kmeans": lambda a: vq.kmeans(a(OBSERVED), a(OBSERVED[:3])),
    "vq.kmeans2": lambda a: vq.kmeans2(a(OBSERVED), a(OBSERVED[:3]), minit="matrix"),
    "vq.vq": lambda a: vq.vq(a(OBSERVED), a(OBSERVED[:3])),
    **calls(spaced("hierarchy", "cophenet inconsistent leaves_list maxdists"), lambda f, a: f(a(LINKAGE))),
    "hierarchy.fcluster": lambda a: hierarchy.fcluster(a(LINKAGE), 3, "maxclust"),
    "hierarchy.fclusterdata": lambda a: hierarchy.fclusterdata(a(OBSERVED), 1.0),
    "hierarchy.linkage": lambda a: hierarchy.linkage(a(OBSERVED), "ward"),
    "hierarchy.optimal_leaf_ordering": lambda a: hierarchy.optimal_leaf_ordering(a(LINKAGE), a(OBSERVED)),
    **calls(
        spaced("ndimage", "gaussian_filter gaussian_gradient_magnitude gaussian_laplace rotate shift"), lambda f, a: f(a(X), 1.5)
    ),
    **calls(
        spaced("ndimage", "grey_closing grey_dilation grey_erosion grey_opening maximum_filter median_filter minimum_filter uniform_filter"),
        lambda f, a: f(a(X), 3),
    ),
    **calls(
        spaced("ndimage", "center_of_mass extrema laplace maximum mean median minimum prewitt sobel spline_filter standard_deviation sum "
        "variance"),
        lambda f, a: f(a(P)),
    ),
    "ndimage.convolve": lambda a: ndimage.convolve(a(X), a(Y[:3, :3])),
    "ndimage.sum_labels": lambda a: ndimage.sum_labels(a(X), a((X > 0).astype(int)), a(np.array([0, 1]))),
    "ndimage.zoom": lambda a: ndimage.zoom(a(X), 2),
    "interpolate.BSpline": lambda a: interpolate.BSpline(a(T), a(V[:8]), 3)(a(AT + 3)),
    "interpolate.CubicHermiteSpline": lambda a: interpolate.CubicHermiteSpline(a(T), a(V), a(W))(a(AT)),
    "interpolate.PPoly": lambda a: interpolate.PPoly(a(X[:, :3]), a(T[:4]))(a(AT[:2])),
    **calls("interpolate.CubicSpline interpolate.make_interp_spline interpolate.make_smoothing_spline", lambda f, a: f(a(T), a(V))(a(AT))),
    "interpolate.Akima1DInterpolator": lambda a: interpolate.Akima1DInterpolator(a(T), a(V))(a(AT)),
    "interpolate.RegularGridInterpolator": lambda a: interpolate.RegularGridInterpolator(
        (a(T[:6]), a(T[:4])), a(X))(a(np.array([[0.5, 1.5]]))),
}  # fmt: skip

# Likewise, but what is handed over are ranks or labels, which have no gradient.
OF_RANKS = {
    **calls(
        spaced("stats", "ansari brunnermunzel chatterjeexi cramervonmises_2samp fligner kruskal mannwhitneyu mood spearmanrho wilcoxon"),
        lambda f, a: (lambda r: (r.statistic, r.pvalue))(f(a(V), a(W))),
    ),
    "stats.friedmanchisquare": lambda a: stats.friedmanchisquare(a(V), a(W), a(COUNTS)),
    "ndimage.label": lambda a: ndimage.label(a(X > 0)),
}  # fmt: skip

# SciPy makes a NumPy array of the tensor and returns NumPy's: a function that it has not opened for other libraries yet.
NUMPY_ONLY = {
    "integrate.simpson": lambda a: integrate.simpson(a(V)),
    "interpolate.interp1d": lambda a: interpolate.interp1d(a(T), a(V))(a(AT)),
    "linalg.expm": lambda a: linalg.expm(a(X[:4])),
    "linalg.inv": lambda a: linalg.inv(a(X[:4])),
    "linalg.solve": lambda a: linalg.solve(a(X[:4]), a(Y[:4])),
    "linalg.svd": lambda a: linalg.svd(a(X)),
    "optimize.root": lambda a: optimize.root(lambda v: v - 1, a(V)).x,
    "signal.welch": lambda a: signal.welch(a(V), nperseg=4),
    "spatial.distance.cdist": lambda a: spatial.distance.cdist(a(X), a(Y)),
    "stats.linregress": lambda a: stats.linregress(a(V), a(W)),
    "stats.spearmanr": lambda a: stats.spearmanr(a(V), a(W)),
}

# What is refused, by what words.
REFUSED = {
    "interpolate.PchipInterpolator": (lambda a: interpolate.PchipInterpolator(a(T), a(V)), DTypeError, "x must be a Tensor, got numpy"),
    "interpolate.RBFInterpolator": (lambda a: interpolate.RBFInterpolator(a(OBSERVED), a(V[:10]))(a(OBSERVED)), AttributeError, "view"),
    "signal.sosfilt": (lambda a: signal.sosfilt(a(SOS), a(SIGNAL)), ValueError, "read-only"),
    "signal.sosfiltfilt": (lambda a: signal.sosfiltfilt(a(SOS), a(SIGNAL)), ValueError, "read-only"),
}  # fmt: skip

# Sums over 40 samples, in another order than NumPy's, and a few dozen operations besides, each rounding once.
ULP = 64
BOUNDS = {
    "differentiate.jacobian": 2
    ** 14,  # quotients of differences over steps down to 2**-9: rounding of f is multiplied by 2**10
    "differentiate.hessian": 2**18,  # ... twice, over steps down to 2**-4
    "stats.bartlett": 2**10,  # a difference of logarithms that all but cancel
    "stats.epps_singleton_2samp": 2**14,  # the inverse of a covariance matrix of condition 10**3
    "stats.lmoment": 2**8,  # binomial combinations: their coefficients add up to 70
}
# What SciPy computes in the namespace's default floating dtype: float32 here, float64 in NumPy.
NARROW = {
    "fft.fftfreq",
    "fft.rfftfreq",
    "interpolate.Akima1DInterpolator",
    "stats.brunnermunzel",
    "stats.rankdata",
}


@pytest.mark.parametrize("name", [*GENERIC, *THROUGH_NUMPY, *OF_RANKS])
def test_it_agrees_with_numpy(name, agree):
    agree({**GENERIC, **THROUGH_NUMPY, **OF_RANKS}[name], ulp=BOUNDS.get(name, ULP), narrow=name in NARROW)


def tracked(a):
    """A tensor with a gradient to lose."""
    x = cl.asarray(a)
    return x.requires_grad_() * 1 if x.dtype.kind in ("float", "complex") else x


@pytest.mark.parametrize("name", GENERIC)
def test_gradients_pass(name, device):
    GENERIC[name](tracked)


@pytest.mark.parametrize("name", THROUGH_NUMPY)
def test_a_gradient_is_not_lost_silently(name, device):
    with pytest.raises(GradientError, match="NumPy would take the values"):
        THROUGH_NUMPY[name](tracked)


@pytest.mark.parametrize("name", NUMPY_ONLY)
def test_the_rest_returns_numpys_arrays(name, device):
    results = NUMPY_ONLY[name](cl.asarray)
    assert not any(isinstance(r, cl.Tensor) for r in (results if isinstance(results, tuple) else [results]))


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_run(name, device):
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        call(cl.asarray)


def test_what_writes_through_a_view_says_that_it_failed(device):
    """SciPy replaces infinite values of the integrand by writing to a reshaped transpose, which here is another value."""
    total = integrate.nsum(lambda k: 1 / k**2, cl.asarray(np.array(1.0)), cl.asarray(np.array(np.inf)))
    improper = integrate.tanhsinh(lambda x: 1 / x**2, cl.asarray(np.array(1.0)), cl.asarray(np.array(np.inf)))
    assert not total.success and not improper.success
    assert cl.isnan(total.sum) and cl.isnan(improper.integral)


DIFFERENTIABLE = {
    "special.logsumexp": lambda x, y: special.logsumexp(x, axis=1),
    "special.softmax": lambda x, y: special.softmax(x, axis=0) * y,
    "special.xlogy": lambda x, y: special.xlogy(x * x, y * y),
    "stats.skew": lambda x, y: stats.skew(x),
    "stats.zscore": lambda x, y: stats.zscore(x) * y,
    "stats.gmean": lambda x, y: stats.gmean(x * x),
    "integrate.trapezoid": lambda x, y: integrate.trapezoid(x, dx=0.5),
    "fft.rfft": lambda x, y: cl.abs(fft.rfft(x)),
    "signal.fftconvolve": lambda x, y: signal.fftconvolve(x, y, axes=1) ** 2,
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_those_of_finite_differences(name, device):
    x, y = cl.asarray(X[:3]), cl.asarray(Y[:3])
    assert cl.gradcheck(lambda x: DIFFERENTIABLE[name](x, y).sum(), [x])


def bare(names):
    return {name.split("(")[0] for name in names}


def test_the_page_lists_what_runs(listed):
    assert listed("SciPy", "in corelib's functions") == bare(GENERIC)
    assert listed("SciPy", "through NumPy") == bare({**THROUGH_NUMPY, **OF_RANKS})
    assert listed("SciPy", "returns NumPy's arrays") == set(NUMPY_ONLY)
    assert listed("SciPy", "does not run") == set(REFUSED)
    assert listed("SciPy", "says that it failed") == {"integrate.nsum", "integrate.tanhsinh"}
