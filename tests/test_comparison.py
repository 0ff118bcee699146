"""What `compare` and `nearest_classical` say, against closed forms; and what they refuse."""

import json
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest

from adaptive_dropout import compare, comparison, effective_penalty, nearest_classical
from adaptive_dropout import penalties as classical
from adaptive_dropout.comparison import METHODS, Match, best_scale, parse_rule, plot_comparison
from adaptive_dropout.effective import BiasedBernoulli, MagnitudePruning, MaskFamily, Standout
from adaptive_dropout.hard_concrete import HardConcreteL0
from adaptive_dropout.noise import Bernoulli
from adaptive_dropout.one_coin import translate
from adaptive_dropout.variational_dropout import VariationalDropout, VariationalDropoutApprox

FLOORED = "alpha = (w**2+0.01)/(w**2+0.11)"  # eta = 10 (w^2 + 0.01), Omega = log(1 + w^2 / 0.01) / 20: a Cauchy penalty


@pytest.fixture(scope="module")
def floored():
    return compare(FLOORED, lam=2.0)  # Omega is halved: eta = lam * 10 (w^2 + 0.01)


# ---- the report ----


def test_report_of_a_known_penalty_line_by_line(floored):
    lines = str(floored).splitlines()
    assert lines[0] == f"rule      {FLOORED}   (lambda = 2)" and lines[1] == "valid     yes"
    assert lines[2].strip() == "alpha does not decrease with |w|, so the penalty is concave in w**2"
    assert lines[3].strip() == "gives no exact zeros (slope at 0 vanishes)"
    assert lines[4].strip().startswith("grows without bound (judged up to |w| = ")
    assert lines[5].startswith("nearest   0.05 × Cauchy(0.1): gap below a millionth")
    assert lines[6].startswith("          ") and lines[7].startswith("          ") and lines[8] == "", "three relatives"
    assert lines[9].split() == ["w", "omega", "slope", "eta_hat", "alpha_hat", "dual", "f", "prox(w,lam)"]
    assert len(lines) == 10 + 8


def test_table_of_a_known_penalty(floored):
    table = {name: np.array(values) for name, values in floored.table.items()}
    w, eta = table["w"], 20 * (table["w"] ** 2 + 0.01)
    assert w.tolist() == pytest.approx([0, 0.05, 0.25, 0.5, 1, 2, 3.5, 5])
    assert np.allclose(table["omega"], np.log1p(w**2 / 0.01) / 40, rtol=1e-9)
    assert np.allclose(table["slope"], w / eta, rtol=1e-9) and np.allclose(table["eta_hat"], eta, rtol=1e-9)
    assert np.allclose(table["alpha_hat"], (w**2 + 0.01) / (w**2 + 0.11), rtol=1e-9)
    dual = np.log(eta / 0.2) / 20 - (1 - 0.2 / eta) / 20  # f = 2 Omega - w^2 / eta
    assert np.allclose(table["dual f"], dual, rtol=1e-8, atol=1e-12)
    cost = lambda x, v: 0.5 * (x - v) ** 2 + 2 * np.log1p(x**2 / 0.01) / 40
    grid = np.linspace(0, 5, 50_001)
    for v, x in zip(w, table["prox"], strict=True):
        assert cost(x, v) <= cost(grid, v).min() + 1e-9 and abs(x - grid[cost(grid, v).argmin()]) < 2e-4


def test_alpha_is_one_where_eta_is_infinite():
    table = compare("biased-bernoulli", lam=4.0).table  # MCP with a plateau from sqrt(lam) = 2 on
    assert table["alpha_hat"][-2:] == [1.0, 1.0] and table["eta_hat"][-2:] == [np.inf, np.inf]
    assert max(table["alpha_hat"][:-3]) < 1


def test_upper_sets_the_interval():
    result = compare("standout", upper=2.0)
    assert result.table["w"][-1] == 2 and all(match.where <= 2 for match in result.nearest)


def test_json_has_the_same_numbers(floored):
    stored = json.loads(json.dumps(floored.to_dict(), allow_nan=False))
    assert stored["rule"] == FLOORED and stored["lambda"] == 2 and stored["valid"] is True
    assert stored["reasons"] == list(floored.reasons) and len(stored["nearest"]) == len(floored.nearest) >= 15
    assert stored["nearest"][0]["penalty"] == "Cauchy(sigma=0.1)" or "Cauchy" in stored["nearest"][0]["penalty"]
    assert stored["nearest"][0]["scale"] == floored.nearest[0].scale and stored["table"]["omega"][0] == 0
    singular = compare("alpha = w**2/(w**2+0.1)").to_dict()
    assert singular["table"]["omega"][0] == "-inf"


def test_no_more_than_three_relatives_are_printed_but_all_are_kept(floored):
    assert str(floored).count("×") == 3 and len(floored.nearest) == len(comparison._FAMILIES)
    gaps = [match.relative_gap for match in floored.nearest]
    assert gaps == sorted(gaps, key=lambda gap: round(gap, 6))


# ---- zeros, growth, jumps ----


@pytest.mark.parametrize(
    "rule, word",
    [
        ("f = 2*log(1 + eta)", "gives exact zeros"),  # slope sqrt(2) at 0
        ("hard-concrete", "gives exact zeros"),
        (FLOORED, "gives no exact zeros"),
        ("standout", "gives no exact zeros"),
        ("alpha = w**2/(w**2+0.1)", "is -inf at 0"),
    ],
)
def test_what_happens_at_zero(rule, word):
    assert compare(rule).reasons[1].startswith(word)


@pytest.mark.parametrize(
    "rule, word",
    [
        ("standout", "is bounded:"),
        ("variational-dropout", "grows"),  # like log w
        ("hard-concrete", "is bounded:"),
        ("alpha = 1 - exp(-w)", "is bounded:"),
        ("alpha = 0.5", "grows"),  # ridge
        (FLOORED, "grows"),
        ("alpha = w**2/(w**2+0.1)", "grows"),  # log, -inf at 0
        ("omega = sqrt(1+w)-1", "grows"),
        ("omega = log(1+w)/1e6", "grows"),  # however slowly
        ("omega = 1-1/(1+log(1+w))", "is bounded:"),
        ("omega = log(1+log(1+w))", "is bounded or grows"),
        ("omega = atan(w/1e7)", "is bounded:"),
        ("f = eta", "grows"),  # l1
        ("f = eta/(1+eta)", "is bounded:"),
        (classical.MCP(1.0, 1e7), "is bounded:"),  # a straight line at 1e6, which two far weights took for growth
        (classical.GemanMcClure(1e8), "is bounded:"),
        (classical.CappedL1(1e9), "is bounded:"),
        (classical.LogSum(1e9), "grows"),
        (classical.Lp(0.01), "grows"),
        (classical.L2(), "grows"),
        (lambda w: np.where(w < 2, 0.5, 1.0), "is bounded:"),  # jumps to alpha = 1: no rounding error
    ],
    ids=lambda rule: rule if isinstance(rule, str) else type(rule).__name__,
)
def test_growth(rule, word):
    (penalty, _) = comparison._read(rule, 1.0)
    sentence = comparison._growth(comparison._penalty_of(penalty, 1.0, "alpha"), 1.0)
    assert sentence.startswith(word) and "up to |w| = " in sentence


def test_jumps_are_reported():
    jump = 0.5357  # of the hard concrete for lam = 1
    assert any("jumps at |w| = 2" in reason for reason in compare(lambda w: np.where(w < 2, 0.2, 0.8)).reasons)
    assert not any("jumps" in reason for reason in compare("standout").reasons)
    assert abs(HardConcreteL0(1.0)(jump) - 0.5) < 1e-3


def test_an_invalid_rule_is_a_finding_with_its_name_and_interval():
    result = compare("alpha = 1/(1+w**2)")
    assert not result.valid and result.penalty is None and not result.nearest and not result.table
    assert "decreas" in result.reasons[0] and "valid     no" in str(result) and result.name == "alpha = 1/(1+w**2)"
    assert compare(np.cos).name == "cos" and compare("alpha = 1").reasons[0].startswith("alpha is 1 everywhere")
    assert "penalises nothing" in compare("omega = 3").reasons[0]
    family = MaskFamily(lambda a: Bernoulli(1 - a), lambda a: a, 0.1, 0.9)
    assert not compare(family).valid and "increase" in compare(family).reasons[0]


@pytest.mark.parametrize(
    "upper, eta", [(0.5, 1.0), (0.99, 99.0), (1 - 2**-30, 2**30), (1 - 2**-52, np.inf), (1.0, np.inf)]
)
def test_eta_ends_at_the_last_mask_unless_its_noise_is_below_rounding(upper, eta):
    masks = MaskFamily(Bernoulli, lambda a: a, 1e-9, upper)
    assert effective_penalty(masks).eta_hat(1e7) == pytest.approx(eta, rel=1e-5)


# ---- names ----


@pytest.mark.parametrize(
    "text, penalty",
    [
        ("variational dropout", VariationalDropout(0.5)),
        ("VariationalDropout", VariationalDropout(0.5)),
        ("variational_dropout", VariationalDropout(0.5)),
        ("VariationalDropoutApprox", VariationalDropoutApprox(0.5)),
        ("variational-dropout-approximation", VariationalDropoutApprox(0.5)),
        ("hard concrete", HardConcreteL0(0.5)),
        ("HardConcreteL0", HardConcreteL0(0.5)),
        ("Standout", Standout(0.5)),
        ("biased Bernoulli", BiasedBernoulli(0.5)),
        ("magnitude pruning", MagnitudePruning(1)),
    ],
)
def test_methods_by_name(text, penalty):
    given, name = comparison._read(text, 0.5)
    assert given == penalty and name == text


@pytest.mark.parametrize("member", comparison.SEPARABLE.values(), ids=repr)
def test_classical_penalties_by_name(member):
    given, name = comparison._read(repr(member), 0.5)
    assert given == member and name == repr(member)
    plain = type(member).__name__
    assert comparison._read(f" {plain.lower()} ", 0.5)[0] == comparison._read(plain, 2.0)[0] == member


def test_classical_penalties_with_parameters():
    for text, penalty in (("logsum(0.5)", classical.LogSum(0.5)), ("MCP(3, lam=2)", classical.MCP(3.0, 2.0))):
        assert compare(text).penalty == translate(text, lam=7.0) == penalty
    assert compare("ridge").penalty == classical.L2() and compare("L0").valid
    for text, words in (("LogSum(x)", "LogSum takes eps"), ("Lasso(3)", "L1 takes no parameters")):
        with pytest.raises(ValueError, match=words):
            compare(text)


def test_a_logarithm_is_called_one():
    match = compare("f = log(eta)").nearest[0]
    assert str(match).startswith("1 × log|w|: gap below") and match.penalty == classical.LogSum(0.0)


def test_hyperbolic_functions_do_not_overflow():
    penalty, w = compare("omega = log(cosh(2*w))/2").penalty, np.array([1e-6, 0.3, 2.0, 1e3, 1e8])
    assert np.allclose(penalty.grad(w), np.tanh(2 * w), rtol=1e-12)
    assert np.allclose(penalty(w[1:]), (np.logaddexp(2 * w[1:], -2 * w[1:]) - np.log(2)) / 2, rtol=1e-9)
    assert parse_rule("f = sinh(eta) + cosh(eta)").function(np.array(2.0)) == pytest.approx(np.exp(2.0), rel=1e-15)


def test_every_method_is_compared():
    assert all(compare(name).valid for name in METHODS)


def test_text_is_parsed_once(monkeypatch):
    texts, parse = [], comparison.parse_rule
    monkeypatch.setattr(comparison, "parse_rule", lambda text, lam: texts.append(text) or parse(text, lam))
    compare("eta = |w|")
    assert texts == ["eta = |w|"]


def test_numbers_and_functions_are_read_as_written():
    for text, value in (
        ("2**3*eta", 16),
        ("sigmoid(eta-1e3)", 0),
        ("max(eta, 3)", 3),
        ("min(-eta, 0)", -2),
        ("lam", 7),
    ):
        assert parse_rule(f"f = {text}", lam=7.0).function(np.array(2.0)) == value


def test_bars_are_absolute_values():
    for text in ("eta = |w|", "eta = abs(w)", "eta = w"):
        assert parse_rule(text).function(np.array([0.0, 2.0])).tolist() == [0, 2]
    with pytest.raises(ValueError, match="not arithmetic"):
        parse_rule("eta = w | 1")


# ---- refusals ----


@pytest.mark.parametrize(
    "act, kind, words",
    [
        (
            lambda: compare(classical.L1),
            TypeError,
            "rule must be an object, not a class, got class L1: did you mean L1",
        ),
        (lambda: nearest_classical(classical.L1), TypeError, "penalty must be .* did you mean L1"),
        (lambda: effective_penalty(classical.L1), TypeError, "rule must be .* did you mean L1"),
        (lambda: nearest_classical(np.abs), TypeError, "penalty must be a Penalty object.*effective_penalty"),
        (lambda: nearest_classical(MagnitudePruning(2)), TypeError, "separable"),
        (lambda: compare(np.tanh, kind="foo"), ValueError, "kind must be 'alpha' or 'eta', got 'foo'"),
        (lambda: compare("standout", kind="foo"), ValueError, "kind"),
        (lambda: effective_penalty(Standout(1.0), kind="foo"), ValueError, "kind"),
        (lambda: compare("standout", upper=1e200), ValueError, "upper"),
        (lambda: compare("standout", upper=1e-200), ValueError, "upper"),
        (lambda: compare("standout", upper=np.nan), ValueError, "upper"),
        (lambda: nearest_classical(classical.L1(), upper=0), ValueError, "upper"),
        (lambda: nearest_classical(classical.L1(), points=0), ValueError, "points must be at least 2, got 0"),
        (lambda: nearest_classical(classical.L1(), points=1), ValueError, "points"),
        (lambda: nearest_classical(classical.L1(), points=100.5), TypeError, "points must be a whole number"),
        (lambda: nearest_classical(classical.L1(), points=True), TypeError, "points"),
        (
            lambda: compare("dropout"),
            ValueError,
            "rule must be a formula.*-pruning, or a classical penalty.*: L1, L2.*; got 'dropout'",
        ),
        (lambda: translate("gamma", "rule"), ValueError, "thing must be a formula.*; got 'gamma'"),
        (lambda: parse_rule("alpha = np.tanh(w)"), ValueError, "'np.tanh\\(w\\)'.*functions without a module, as tanh"),
        (lambda: compare("standout", lam=0), ValueError, "lam"),
        (lambda: compare(3), TypeError, "rule"),
        (lambda: Standout(1.0, 1e200), ValueError, "w2=1e\\+200"),
        (lambda: Standout(1e300, 1e-10), ValueError, "lam=1e\\+300"),
    ],
)
def test_refusals_name_the_argument(act, kind, words):
    with pytest.raises(kind, match=words):
        act()


@pytest.mark.parametrize("upper", [1e-90, 1e-9, 1e90])
@pytest.mark.parametrize("rule", ["standout", "variational-dropout", FLOORED, "alpha = w**2/(w**2+0.1)"])
def test_far_intervals_make_no_noise(rule, upper):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = compare(rule, upper=upper)
    assert result.valid and all(np.isfinite(match.gap) for match in result.nearest)


# ---- nearest ----


@pytest.mark.parametrize("size", [1e-6, 0.3, 40.0])
@pytest.mark.parametrize(
    "family", [n for n in comparison._FAMILIES if n not in ("L1", "L2", "Lp", "Huber", "PseudoHuber")]
)
def test_a_member_is_its_own_nearest_relative(family, size):
    own = comparison._FAMILIES[family](size, 1.0)
    w, _ = comparison._weights(own, 1.0, 501)
    best = comparison._fit(family, comparison._FAMILIES[family], w, lambda member: member(w), own(w))
    assert best.relative_gap < 2e-6
    if size < 1:
        assert abs(best.scale - 1) < 1e-3


@pytest.mark.parametrize(
    "own, upper",
    [(classical.Lp(1.7), 5.0), (classical.Lp(0.3), 5.0), (classical.MCP(1, 3e8), 1e10), (classical.LogSum(3e8), 1e10)],
)
def test_powers_and_long_intervals_are_found_too(own, upper):
    (first, *_) = nearest_classical(own, upper=upper)
    assert first.name == type(own).__name__ and first.relative_gap < 1e-6


def test_gap_is_where_it_says():
    target = VariationalDropout(1.0)
    w = np.union1d(np.linspace(0, 5, 501), 5 * np.geomspace(1e-8, 1, 501))
    for match in nearest_classical(target):
        distance = np.abs(target(w) - match.scale * match.penalty(w))
        assert abs(distance.max() - match.gap) < 1e-12 and abs(match.relative_gap - match.gap / target(5.0)) < 1e-12
        assert abs(target(match.where) - match.scale * match.penalty(match.where)) == pytest.approx(
            match.gap, abs=1e-12
        )


def test_relative_gap_is_what_is_printed():
    match = Match("L1", classical.L1(), 2.0, 0.03, 1.0, 0.0123)
    assert str(match) == "2 × L1(): gap 0.03 (1.2%)"
    assert "gap below a millionth" in str(Match("L1", classical.L1(), 2.0, 3.0, 1.0, 1e-7)), "3 of 3e7 is little"
    assert "(50%)" in str(Match("L1", classical.L1(), 2.0, 1e-9, 1.0, 0.5)), "1e-9 of 2e-9 is much"


def test_small_penalties_are_compared_like_large_ones():
    small = nearest_classical(Standout(1e20))
    large = nearest_classical(Standout(1e-20))
    assert [m.name for m in small] == [m.name for m in large]
    assert np.allclose([m.relative_gap for m in small], [m.relative_gap for m in large], rtol=1e-4, atol=1e-9)


def test_best_scale_may_exceed_the_ratio_of_the_maxima():
    scale, gap = best_scale(np.array([1.0, 1.0]), np.array([1.0, 0.1]))  # s - 1 = 1 - s / 10
    assert abs(scale - 2 / 1.1) < 1e-12 and abs(gap - 0.9 / 1.1) < 1e-12


def test_best_scale_of_a_curve_that_is_zero():
    scale, gap = best_scale(np.array([0.0, 1.0]), np.zeros(2))
    assert np.isfinite(scale) and gap == 1


# ---- the picture ----


def test_penalties_with_a_pole_are_aligned_at_the_end():
    result = compare("alpha = w/(w+0.1)/(1 + 0/(1+w))")  # eta = 10 w: l1, no pole
    axes = plot_comparison(result)
    assert "const" not in axes[0].get_legend().get_texts()[1].get_text() and axes[2].get_xscale() == "linear"
    result = compare("eta = 10*w**2/(1+w)")
    axes = result.plot()
    penalty, match = axes[0].lines[0].get_ydata(), axes[0].lines[1].get_ydata()
    text = axes[0].get_legend().get_texts()[1].get_text()
    assert abs(penalty[-1] - match[-1]) < 1e-12 and "+ const" in text and "equal at $|w|$ = 5" in text
    assert np.abs(penalty - match)[5:].max() < 0.1 and axes[2].get_xscale() == "log"
    plt.close("all")


def test_picture_shows_the_four_functions(floored):
    axes = plot_comparison(floored, plt.subplots(1, 4)[1])
    w, alpha = axes[1].lines[0].get_data()
    assert np.allclose(alpha, (w**2 + 0.01) / (w**2 + 0.11), rtol=1e-9)
    assert np.allclose(axes[3].lines[0].get_ydata(), floored.penalty.prox(w, 2.0))
    assert np.allclose(axes[2].lines[0].get_ydata(), floored.penalty.dual(axes[2].lines[0].get_xdata()))
    assert [ax.get_title() for ax in axes[[0, 3]]] == [r"$\Omega(w)$", r"prox at step $\lambda$"]
    plt.close("all")


@pytest.mark.parametrize("rule", ["alpha = 1/(1+w**2)", "magnitude pruning"])
def test_without_a_curve_there_is_no_picture(rule):
    with pytest.raises(ValueError, match="no penalty to draw|no curve"):
        compare(rule).plot()
