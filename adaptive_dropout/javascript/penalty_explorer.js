// The explorer of two penalties: Omega, dual, eta_hat, prox, induced prior and gap side by side.

const TYPED = "typed rule";

/** The penalty that the model names as first or second, with its parameter put in. */
function chosen(model, which) {
  const name = model.get(which), s = model.get(`${which}_parameter`);
  if (name === TYPED) return { name: model.get("formula"), ...penaltyFromRule(model.get("formula"), model.get("lam"), model.get("upper")) };
  const made = PENALTIES[name];
  if (!made) throw new Error(`unknown penalty ${name}`);
  const bound = { slope: (x) => made.slope(x, s), value: (x) => made.value(x, s), dual: (eta) => made.dual(eta, s), etaHat: (x) => etaHat(made, x, s) };
  return { name: made.parameter ? `${name}(${Number(s.toPrecision(4))})` : name, ...bound };
}

const range = (low, high, count) => Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));
const finite = (values) => values.filter((value) => Number.isFinite(value));

/** All curves and numbers of the explorer. */
function penaltyFrame(first, second, { lam, kappa, upper }) {
  const w = range(0, upper, 301), eta = range(0, 2 * upper, 200).slice(1), v = range(0, upper, 121), pair = [first, second];
  const curves = pair.map((penalty) => w.map((x) => penalty.value(x)));
  const duals = pair.map((penalty) => eta.map((x) => penalty.dual(x)));
  const [scale, gap] = bestScale(...curves), difference = curves[0].map((y, i) => y - scale * curves[1][i]);
  const where = w[difference.findIndex((y) => Math.abs(y) >= gap * (1 - 1e-9))];
  const span = (...lists) => [0, stepUp(Math.max(...finite(lists.flat())))];
  const roomy = [0, stepUp(1.3 * Math.max(...finite(curves.flat())))]; // above the curves stand their names
  const two = (x, lists, labels = []) => lists.map((y, i) => ({ x, y, style: ["one", "two"][i], label: labels[i] }));
  const edge = stepUp(Math.max(gap, 1e-6 * Math.max(...curves[0])));
  const names = pair.map((penalty) => (penalty.name.length > 24 ? TYPED : penalty.name));
  const panels = [
    { title: "penalty Ω(w)", xlabel: "|w|", xlim: [0, upper], ylim: roomy, curves: two(w, curves, names) },
    { title: "dual f(η)", xlabel: "η", xlim: [0, 2 * upper], ylim: span(...duals), curves: two(eta, duals) },
    { title: "η̂(w)", xlabel: "|w|", xlim: [0, upper], ylim: [0, 2 * upper], curves: two(w, pair.map((p) => w.map((x) => p.etaHat(x)))) },
    { title: "prox at step λ", xlabel: "v", xlim: [0, upper], ylim: [0, upper], curves: two(v, pair.map((p) => prox(p, v, lam))) },
    { title: "prior ∝ exp(−κ Ω(w))", xlabel: "|w|", xlim: [0, upper], ylim: [0, 1], curves: two(w, curves.map((y) => y.map((omega) => Math.exp(-kappa * omega)))) },
    { title: "gap after scaling", xlabel: "|w|", xlim: [0, upper], ylim: [-edge, edge], curves: two(w, [difference]) },
  ];
  const share = (100 * gap) / Math.max(...curves[0]);
  const words = `gap ${gap.toPrecision(4)} (${share.toPrecision(2)} % of the range) at |w| = ${Number(where.toPrecision(4))}: ${first.name} against ${scale.toPrecision(4)} × ${second.name}`;
  return { panels, words, gap, scale };
}

/** Controls for one of the two penalties: its name and its parameter, whose range depends on the name. */
function penaltyControls(model, which) {
  const list = choice(model, which, `${which} penalty`, [...Object.keys(PENALTIES), TYPED]);
  const spec = { label: "", min: 0, max: 1, step: 0.05 }, parameter = slider(model, `${which}_parameter`, spec), show = parameter.show;
  const own = () => PENALTIES[model.get(which)]?.parameter;
  parameter.show = () => {
    parameter.label.hidden = !own();
    if (!own()) return;
    const [name, , min, max] = own();
    Object.assign(spec, { label: `${name} of the ${which}`, min, max });
    show();
  };
  list.label.querySelector("select").addEventListener("change", () => {
    if (own()) model.set(`${which}_parameter`, own()[1]);
    model.save_changes();
  });
  return [list, parameter];
}

function render({ model, el }) {
  const formula = choice(model, "formula", "rule: alpha, eta or omega = ... in w, lam"), show = formula.show;
  formula.show = () => {
    formula.label.hidden = ![model.get("first"), model.get("second")].includes(TYPED);
    show();
  };
  const controls = [
    ...penaltyControls(model, "first"), ...penaltyControls(model, "second"),
    slider(model, "lam", { label: "λ (step, and lam of a rule)", min: 0.01, max: 10, log: true }),
    slider(model, "kappa", { label: "κ (exponent of the prior)", min: 0.1, max: 10, log: true }),
    slider(model, "upper", { label: "weights up to", min: 1, max: 20, step: 0.5 }),
    formula,
  ];
  const names = ["first", "first_parameter", "second", "second_parameter", "formula", "lam", "kappa", "upper"];
  const settings = () => Object.fromEntries(["lam", "kappa", "upper"].map((name) => [name, model.get(name)]));
  mount(model, el, names, controls, () => penaltyFrame(chosen(model, "first"), chosen(model, "second"), settings()));
}
