// Penalties of one weight x = |w| >= 0. Each has value(x, s) = Omega, slope(x, s) = Omega' and dual(eta, s) = f with
// one parameter s; etaHat(x, s) where x / slope would lose digits. The formulas are those of the Python package, written
// so that nothing cancels near 0.

/** Nodes and weights of Gauss-Legendre quadrature on [0, 1], by Newton's method. */
function gaussLegendre(count) {
  const nodes = [], weights = [];
  for (let i = 0; i < count; i++) {
    let z = Math.cos((Math.PI * (i + 0.75)) / (count + 0.5)), rate = 1;
    for (let round = 0; round < 12; round++) {
      let before = 1, now = z;
      for (let k = 2; k <= count; k++) [before, now] = [now, ((2 * k - 1) * z * now - (k - 1) * before) / k];
      rate = (count * (z * now - before)) / (z * z - 1);
      z -= now / rate;
    }
    nodes.push((1 - z) / 2);
    weights.push(1 / ((1 - z * z) * rate * rate));
  }
  return { nodes, weights };
}

const FINE = gaussLegendre(64), COARSE = gaussLegendre(16);

/** u = d / (2 + d) and log(1 + d) - 2 u, for d = max(zeta - 1, 0): the duals of the logarithmic penalties. */
function logParts(zeta) {
  const d = Math.max(zeta - 1, 0), u = d / (2 + d);
  let series = 0;
  for (let k = 12; k > 0; k--) series = u * u * (series + 1 / (2 * k + 1));
  return [u, u < 0.2 ? 2 * u * series : Math.log1p(d) - 2 * u];
}

/** Regularised lower incomplete gamma function P(n, x), n = 2 or 3. */
function lowerGamma(n, x) {
  let series = 1, head = 1;
  for (let k = 24; k > 0; k--) series = 1 + (series * x) / (n + k);
  for (let k = n - 1; k > 0; k--) head = 1 + (head * x) / k;
  const decay = Math.exp(-x);
  return x < 2 ? (decay * x ** n * series) / (n === 2 ? 2 : 6) : decay > 0 ? 1 - decay * head : 1;
}

/** Phi(s) = int_0^1 exp(-s p (2 - p)) dp with its derivative and its integral from 0: variational dropout's curve. */
function dropoutCurve(s) {
  if (s < 50) {
    let phi = 0, rate = 0, integral = 0;
    FINE.nodes.forEach((p, i) => {
      const gap = p * (2 - p), weight = FINE.weights[i], decay = Math.exp(-s * gap);
      phi += weight * decay;
      rate -= weight * decay * gap;
      integral -= (weight * Math.expm1(-s * gap)) / gap;
    });
    return [phi, rate, integral];
  }
  let term = 1, phi = 0, rate = 0, integral = Math.log(s) / 2 + 0.5772156649015329 / 2 + Math.LN2;
  for (let k = 0; k < 25; k++) {
    if (k > 0) term *= (2 * k - 1) / (2 * s);
    phi += term;
    rate -= (k + 1) * term;
    if (k > 0) integral -= term / (2 * k);
  }
  return [phi / (2 * s), rate / (2 * s * s), integral];
}

/** The s with 2 s sqrt(Phi(s)) = x, by Newton's method in log s. */
function dropoutSolve(x) {
  let s = x / 2 + (x * x) / 2;
  for (let round = 0; round < 10; round++) {
    const [phi, rate] = dropoutCurve(s);
    s *= Math.exp((x / (2 * s * Math.sqrt(phi)) - 1) / (1 + (s * rate) / (2 * phi)));
  }
  return s;
}

/** f(eta) = 2 Omega(w) - w Omega'(w) at the w with etaHat(w) = eta, found by bisection. */
function dualByWeight(penalty, eta, s) {
  if (eta <= 0) return 0;
  let low = -700, high = 700;
  while (high - low > 1e-15 * Math.max(1, Math.abs(low))) {
    const middle = (low + high) / 2;
    if (middle === low || middle === high) break;
    if (etaHat(penalty, Math.exp(middle), s) < eta) low = middle;
    else high = middle;
  }
  const w = Math.exp((low + high) / 2);
  return 2 * penalty.value(w, s) - (w / eta) * w;
}

/** w / Omega'(w), eq. (7) of LeJeune et al. (2021); infinite where the slope is 0. */
function etaHat(penalty, x, s) {
  if (penalty.etaHat) return penalty.etaHat(x, s);
  const slope = penalty.slope(x, s);
  return slope > 0 ? x / slope : Infinity;
}

const byWeight = (penalty) => ({ ...penalty, dual: (eta, s) => dualByWeight(penalty, eta, s) });
const soft = (zeta) => (zeta > 1 ? 1 - 1 / zeta : 0);

const PENALTIES = {
  L1: { value: (x) => x, slope: () => 1, dual: (eta) => eta, etaHat: (x) => x },
  L2: { value: (x) => (x * x) / 2, slope: (x) => x, dual: (eta) => (eta > 1 ? Infinity : 0), etaHat: () => 1 },
  Lp: {
    parameter: ["p", 0.5, 0.1, 1.9],
    value: (x, p) => x ** p / p,
    slope: (x, p) => x ** (p - 1),
    dual: (eta, p) => ((2 - p) / p) * eta ** (p / (2 - p)),
    etaHat: (x, p) => x ** (2 - p),
  },
  ElasticNet: {
    parameter: ["theta", 0.5, 0.05, 2],
    value: (x, theta) => x + (theta * x * x) / 2,
    slope: (x, theta) => 1 + theta * x,
    dual: (eta, theta) => (theta * eta < 1 ? eta / (1 - theta * eta) : Infinity),
  },
  Huber: {
    parameter: ["delta", 1, 0.05, 4],
    value: (x, delta) => (x < delta ? ((x / delta) * x) / 2 : x - delta / 2),
    slope: (x, delta) => Math.min(x / delta, 1),
    dual: (eta, delta) => Math.max(eta - delta, 0),
    etaHat: (x, delta) => Math.max(x, delta),
  },
  PseudoHuber: {
    parameter: ["eps", 1, 0.05, 4],
    value: (x, eps) => x * (x / (Math.hypot(x, eps) + eps)),
    slope: (x, eps) => x / Math.hypot(x, eps),
    dual: (eta, eps) => (eta > eps ? (eta - eps) * ((eta - eps) / eta) : 0),
    etaHat: (x, eps) => Math.hypot(x, eps),
  },
  LogSum: {
    parameter: ["eps", 2, 0.05, 4],
    value: (x, eps) => Math.log1p(x / eps),
    slope: (x, eps) => 1 / (x + eps),
    dual: (eta, eps) => {
      if (eta <= 0) return 0;
      const zeta = eta / eps / eps, root = Math.sqrt(zeta), t = (2 * root) / (Math.sqrt(4 + 1 / zeta) + 1 / root);
      return 2 * Math.log1p(t) - 1 / (1 + 1 / t);
    },
  },
  MCP: {
    parameter: ["a", 2, 0.1, 5],
    value: (x, a) => (x < a ? x * (1 - x / (2 * a)) : a / 2),
    slope: (x, a) => (x < a ? 1 - x / a : 0),
    dual: (eta, a) => (eta > 0 ? a / (1 + a / eta) : 0),
  },
  SCAD: {
    parameter: ["a", 3.7, 2.1, 6],
    value: (x, a) => (x < 1 ? x : x < a ? x - (x - 1) ** 2 / (2 * (a - 1)) : (a + 1) / 2),
    slope: (x, a) => (x < 1 ? 1 : x < a ? (a - x) / (a - 1) : 0),
    dual: (eta, a) => (eta < 1 ? eta : (a + 1 - 1 / eta) / ((a - 1) / eta + 1)),
  },
  CappedL1: {
    parameter: ["theta", 1, 0.1, 4],
    value: (x, theta) => Math.min(x, theta),
    slope: (x, theta) => (x < theta ? 1 : 0),
    dual: (eta, theta) => (eta < theta ? eta : 2 * theta - (theta / eta) * theta),
  },
  CappedL2: {
    parameter: ["theta", 1, 0.1, 4],
    value: (x, theta) => Math.min(x, theta) ** 2 / 2,
    slope: (x, theta) => (x < theta ? x : 0),
    dual: (eta, theta) => theta * theta * soft(eta),
    etaHat: (x, theta) => (x < theta ? 1 : Infinity),
  },
  Exponential: byWeight({
    parameter: ["sigma", 1, 0.1, 4],
    value: (x, sigma) => -Math.expm1(-x / sigma),
    slope: (x, sigma) => Math.exp(-x / sigma) / sigma,
  }),
  Fraction: byWeight({
    parameter: ["sigma", 1, 0.1, 4],
    value: (x, sigma) => x / (x + sigma),
    slope: (x, sigma) => sigma / (x + sigma) ** 2,
  }),
  Atan: byWeight({
    parameter: ["sigma", 1, 0.1, 4],
    value: (x, sigma) => Math.atan(x / sigma),
    slope: (x, sigma) => 1 / (sigma * (1 + (x / sigma) ** 2)),
  }),
  LogSquareSum: {
    parameter: ["eps", 1, 0.05, 4],
    value: (x, eps) => Math.log1p((x / eps) * x),
    slope: (x, eps) => (2 * x) / (eps + x * x),
    etaHat: (x, eps) => (eps + x * x) / 2,
    dual: (eta, eps) => {
      const [u, tail] = logParts((2 * eta) / eps);
      return 2 * ((2 * u * u) / (1 + u) + tail);
    },
  },
  Cauchy: {
    parameter: ["sigma", 1, 0.1, 4],
    value: (x, sigma) => Math.log1p((x / sigma) ** 2) / 2,
    slope: (x, sigma) => x / (sigma * sigma + x * x),
    etaHat: (x, sigma) => sigma * sigma + x * x,
    dual: (eta, sigma) => {
      const [u, tail] = logParts(eta / sigma / sigma);
      return (2 * u * u) / (1 + u) + tail;
    },
  },
  GemanMcClure: {
    parameter: ["sigma", 1, 0.1, 4],
    value: (x, sigma) => (x * x) / (2 * (sigma * sigma + x * x)),
    slope: (x, sigma) => x / sigma ** 2 / (1 + (x / sigma) ** 2) ** 2,
    etaHat: (x, sigma) => (sigma * (1 + (x / sigma) ** 2)) ** 2,
    dual: (eta, sigma) => {
      const zeta = Math.max(eta / sigma / sigma, 1);
      return ((zeta - 1) / zeta / (1 + 1 / Math.sqrt(zeta))) ** 2;
    },
  },
  Welsch: {
    parameter: ["sigma", 1, 0.1, 4],
    value: (x, sigma) => -Math.expm1(-((x / sigma) ** 2) / 2),
    slope: (x, sigma) => (x / sigma ** 2) * Math.exp(-((x / sigma) ** 2) / 2),
    etaHat: (x, sigma) => sigma ** 2 * Math.exp((x / sigma) ** 2 / 2),
    dual: (eta, sigma) => {
      const zeta = Math.max(eta / sigma / sigma, 1), [u, tail] = logParts(zeta);
      return 2 * (((zeta - 1) / zeta) * u - tail / zeta);
    },
  },
  Standout: {
    parameter: ["lam", 1, 0.05, 4],
    value: (x, lam) => lowerGamma(2, x) / lam,
    slope: (x, lam) => (x * Math.exp(-x)) / lam,
    etaHat: (x, lam) => lam * Math.exp(x),
    dual: (eta, lam) => (2 * lowerGamma(3, eta > lam ? Math.log(eta / lam) : 0)) / lam,
  },
  VariationalDropout: {
    parameter: ["lam", 1, 0.05, 4],
    value: (w, lam) => {
      if (w === 0) return 0;
      const x = w / Math.sqrt(lam), s = dropoutSolve(x);
      return (x * x) / (4 * s) + dropoutCurve(s)[2];
    },
    slope: (w, lam) => (w === 0 ? 1 : Math.sqrt(dropoutCurve(dropoutSolve(w / Math.sqrt(lam)))[0])) / Math.sqrt(lam),
    etaHat: (w, lam) => (w === 0 ? 0 : 2 * lam * dropoutSolve(w / Math.sqrt(lam))),
    dual: (eta, lam) => 2 * dropoutCurve(eta / lam / 2)[2],
  },
  BiasedBernoulli: {
    parameter: ["lam", 1, 0.05, 4],
    value: (w, lam) => ((x) => (x < 1 ? x * (1 - x / 2) : 0.5))(w / Math.sqrt(lam)),
    slope: (w, lam) => Math.max(1 - w / Math.sqrt(lam), 0) / Math.sqrt(lam),
    dual: (eta, lam) => (eta > 0 ? 1 / (1 + lam / eta) : 0),
  },
};

/** Positions where the increasing function h changes from - to +, refined to the last digits. */
function refine(h, low, high, atLow, atHigh) {
  for (let round = 0; round < 200 && high - low > 2e-16 * high; round++) {
    let middle = round % 3 === 2 ? (low + high) / 2 : (low * atHigh - high * atLow) / (atHigh - atLow);
    if (!(middle > low && middle < high)) middle = (low + high) / 2;
    if (middle === low || middle === high) break;
    const found = h(middle);
    if (found === 0) return middle;
    if (found < 0) [low, atLow, atHigh] = [middle, found, atHigh / 2];
    else [high, atHigh, atLow] = [middle, found, atLow / 2];
  }
  return (low + high) / 2;
}

/** Global minimisers of (w - v)^2 / 2 + step * Omega(w), for v >= 0: 0, v, and all local minima between, compared. */
function prox(penalty, points, step, s) {
  const top = Math.max(...points, 1e-300), grid = [];
  for (let i = 0; i <= 60; i++) grid.push(top * 10 ** (-9 + (9 * i) / 60));
  for (let i = 1; i < 160; i++) grid.push((top * i) / 160);
  grid.sort((a, b) => a - b);
  const pull = grid.map((w) => w + step * penalty.slope(w, s));
  return points.map((v) => {
    let best = 0, least = 0; // objective below that of w = 0
    const offer = (w) => {
      const rise = w * (w / 2 - v) + step * penalty.value(w, s);
      if (rise < least) [best, least] = [w, rise];
    };
    for (let i = 1; i < grid.length && grid[i - 1] < v; i++) {
      if (!(pull[i - 1] < v && pull[i] >= v)) continue;
      const h = (w) => w - v + step * penalty.slope(w, s);
      offer(refine(h, grid[i - 1], grid[i], pull[i - 1] - v, pull[i] - v));
    }
    offer(v);
    return best;
  });
}

/** The multiple of the second curve that is nearest to the first in the sup norm, and the gap it leaves. */
function bestScale(first, second) {
  const gap = (scale) => Math.max(...first.map((y, i) => Math.abs(y - scale * second[i])));
  const size = (curve) => Math.max(...curve.map(Math.abs)), ratio = (Math.sqrt(5) - 1) / 2;
  let low = 0, high = (2 * size(first)) / (size(second) || 1);
  for (let round = 0; round < 75; round++) {
    const left = high - ratio * (high - low), right = low + ratio * (high - low);
    if (gap(left) < gap(right)) high = right;
    else low = left;
  }
  return [(low + high) / 2, gap((low + high) / 2)];
}
