// Typed rules: "alpha = ...", "eta = ..." or "omega = ..." in w and lam. Text becomes a tree, never code; the tree is
// evaluated with derivatives (dual numbers [value, derivative]), so that omega gives its slope.

const FUNCTIONS = {
  exp: (x) => [Math.exp(x), Math.exp(x)],
  log: (x) => [Math.log(x), 1 / x],
  sqrt: (x) => [Math.sqrt(x), 0.5 / Math.sqrt(x)],
  sin: (x) => [Math.sin(x), Math.cos(x)],
  cos: (x) => [Math.cos(x), -Math.sin(x)],
  tanh: (x) => [Math.tanh(x), 1 / Math.cosh(x) ** 2],
  cosh: (x) => [Math.cosh(x), Math.sinh(x)],
  sinh: (x) => [Math.sinh(x), Math.cosh(x)],
  atan: (x) => [Math.atan(x), 1 / (1 + x * x)],
  abs: (x) => [Math.abs(x), Math.sign(x)],
  sigmoid: (x) => [1 / (1 + Math.exp(-x)), 1 / (1 + Math.exp(-x)) / (1 + Math.exp(x))],
  log1p: (x) => [Math.log1p(x), 1 / (1 + x)],
  expm1: (x) => [Math.expm1(x), Math.exp(x)],
};

/** Split a formula into numbers, names and operators. */
function tokens(text) {
  const found = [], pattern = /\s*(?:(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)|([A-Za-z_]\w*)|(\*\*|[-+*/()|]))/y;
  while (pattern.lastIndex < text.trimEnd().length) {
    const at = pattern.lastIndex, match = pattern.exec(text);
    if (!match) throw new Error(`${JSON.stringify(text.slice(at).trim()[0])} is no part of a formula (powers are written **)`);
    found.push(match[1] ? Number(match[1]) : match[2] || match[3]);
  }
  return found;
}

/** The formula as a function of [w, derivative] and lam; throws an Error that says what is not understood. */
function parseFormula(text) {
  if (text.length > 500) throw new Error(`the rule is ${text.length} characters long, 500 are allowed`);
  const left = tokens(text);
  const take = (wanted) => {
    if (left[0] !== wanted) throw new Error(left.length ? `expected ${wanted}, found ${left[0]}` : `${wanted} is missing at the end`);
    left.shift();
  };
  const binary = (next, operators) => () => {
    let tree = next();
    while (Object.hasOwn(operators, left[0])) tree = operators[left.shift()](tree, next());
    return tree;
  };
  const plain = (combine) => (a, b) => (w, lam) => combine(a(w, lam), b(w, lam));
  function atom() {
    const token = left.shift();
    if (typeof token === "number") return () => [token, 0];
    if (token === "(") {
      const inner = sum();
      take(")");
      return inner;
    }
    if (token === "|") {
      const inner = sum();
      take("|");
      return (w, lam) => ((a) => [Math.abs(a[0]), Math.sign(a[0]) * a[1]])(inner(w, lam));
    }
    if (token === "w") return (w) => w;
    if (token === "lam") return (w, lam) => [lam, 0];
    if (token === "pi") return () => [Math.PI, 0];
    if (Object.hasOwn(FUNCTIONS, token) && left[0] === "(") {
      left.shift();
      const inner = sum();
      take(")");
      return (w, lam) => {
        const [x, rate] = inner(w, lam), [value, slope] = FUNCTIONS[token](x);
        return [value, slope * rate];
      };
    }
    const known = `w, lam, pi, ${Object.keys(FUNCTIONS).join(", ")}`;
    throw new Error(token === undefined ? "the formula ends too early" : `unknown name or misplaced ${token}; known are ${known}`);
  }
  function power() {
    const base = atom();
    if (left[0] !== "**") return base;
    left.shift();
    const exponent = unary();
    return (w, lam) => {
      const [a, da] = base(w, lam), [b, db] = exponent(w, lam), value = a ** b;
      return [value, b * a ** (b - 1) * da + (db ? value * Math.log(a) * db : 0)];
    };
  }
  function unary() {
    if (left[0] === "-") {
      left.shift();
      const inner = unary();
      return (w, lam) => inner(w, lam).map((x) => -x);
    }
    if (left[0] === "+") left.shift();
    return power();
  }
  const product = binary(unary, {
    "*": plain((a, b) => [a[0] * b[0], a[1] * b[0] + a[0] * b[1]]),
    "/": plain((a, b) => [a[0] / b[0], (a[1] - (a[0] / b[0]) * b[1]) / b[0]]),
  });
  const sum = binary(product, {
    "+": plain((a, b) => [a[0] + b[0], a[1] + b[1]]),
    "-": plain((a, b) => [a[0] - b[0], a[1] - b[1]]),
  });
  const tree = sum();
  if (left.length) throw new Error(`did not expect ${left[0]}`);
  return tree;
}

/** A penalty like those of PENALTIES from a rule; throws an Error naming the weight at which the rule fails. */
function penaltyFromRule(text, lam, upper = 5) {
  const [kind, ...rest] = text.split("="), name = kind.trim();
  if (!["alpha", "eta", "omega"].includes(name) || rest.length !== 1) {
    throw new Error("a rule looks like alpha = ..., eta = ... or omega = ...");
  }
  const tree = parseFormula(rest[0]), of = (x) => tree([x, 1], lam);
  const retain = (alpha) => (alpha < 1 ? (lam * alpha) / (1 - alpha) : Infinity);
  const etaOf = { alpha: (x) => retain(of(x)[0]), eta: (x) => of(x)[0], omega: (x) => x / of(x)[1] }[name];
  checkRule(name, of, etaOf, upper);
  const penalty = { slope: (x) => x / etaOf(x), etaHat: etaOf };
  penalty.value = integral(penalty.slope, upper);
  penalty.dual = (eta) => dualByWeight(penalty, eta);
  return penalty;
}

/** Throw unless the rule is a number everywhere, in its range, and etaHat does not decrease. */
function checkRule(name, of, etaOf, upper) {
  let before = 0;
  for (let i = 1; i <= 600; i++) {
    const w = i <= 200 ? upper * 10 ** (-6 + i / 40) : (upper * (i - 200)) / 400 + upper / 10, raw = of(w)[0], eta = etaOf(w);
    const near = `near |w| = ${w.toPrecision(3)}`;
    if (!Number.isFinite(raw) || Number.isNaN(eta)) throw new Error(`the rule is not a finite number ${near}`);
    if (name === "alpha" && !(raw > 0 && raw <= 1 + 1e-12)) throw new Error(`alpha must lie in (0, 1], but is ${raw.toPrecision(4)} ${near}`);
    if (!(eta > 0)) throw new Error(`eta must be positive, but is ${eta.toPrecision(4)} ${near}`);
    if (eta < before * (1 - 1e-9)) throw new Error(`eta decreases ${near}: the rule has no penalty`);
    before = eta;
  }
}

/** int_0^x slope, by Gauss-Legendre on panels that double in length; throws where the integral is infinite. */
function integral(slope, upper) {
  const piece = (a, b) => COARSE.nodes.reduce((sum, p, i) => sum + COARSE.weights[i] * slope(a + (b - a) * p), 0) * (b - a);
  const ends = [upper * 2 ** -110], sums = [piece(0, ends[0])];
  const extend = () => {
    ends.push(2 * ends.at(-1));
    sums.push(sums.at(-1) + piece(ends.at(-2), ends.at(-1)));
  };
  while (ends.at(-1) < upper) extend();
  if (!Number.isFinite(sums.at(-1))) throw new Error("the rule divides by 0, or loses all digits, near w = 0");
  if (!(sums[1] - sums[0] < 1e-9 * sums.at(-1))) throw new Error("the penalty is -inf at 0; adaptive-dropout compare treats such rules");
  return (x) => {
    while (ends.at(-1) < x && x < 1e300) extend();
    if (x <= ends[0]) return x > 0 ? piece(0, x) : 0;
    let k = 0;
    while (k < ends.length - 1 && ends[k + 1] <= x) k++;
    return sums[k] + piece(ends[k], x);
  };
}
