// The explorer of DropBlock's spectrum: singular values before and after, rho, lambda and the certificate.

/** All curves and numbers of the explorer. */
function dropblockFrame(spectrum, n, r, thetaBar) {
  const m = SPECTRA[spectrum](n), found = globalMinimum(m, r, thetaBar), index = m.map((_, i) => i + 1), ends = [0.5, n + 0.5];
  const top = 11, upright = [0, 2 * top], gap = (found.value - found.bound) / found.value;
  const panels = [
    {
      title: "singular values", xlabel: "index i", xlim: ends, ylim: [0, top],
      curves: [
        { x: [found.rho - 0.5, found.rho - 0.5], y: upright, style: "two", label: "before: × θ̄" },
        { x: [found.lam + 0.5, found.lam + 0.5], y: upright, style: "three", label: "after: cut" },
        { x: index, y: m, style: "rings" }, { x: index, y: found.a, style: "squares" },
      ],
    },
    {
      title: "share left, aᵢ / mᵢ", xlabel: "index i", xlim: ends, ylim: [0, 1],
      curves: [{ x: ends, y: [thetaBar, thetaBar], style: "two", label: "θ̄" }, { x: index, y: found.a.map((a, i) => a / m[i]), style: "squares" }],
    },
  ];
  const certificate = found.value > 1e-9 && gap > 1e-12 ? gap.toExponential(1) : "below 1e-12";
  const words = `rho = ${found.rho}, lambda = ${found.lam}, minimum ${Number(found.value.toPrecision(6))}, certificate: gap ${certificate}`;
  return { panels, words: `${words}. Rings: targets mᵢ; squares: minimiser aᵢ.` };
}

function render({ model, el }) {
  const block = { label: "block size r", min: 1, max: 20, step: 1 }, size = slider(model, "r", block), show = size.show;
  size.show = () => {
    block.max = model.get("n");
    show();
  };
  const controls = [
    choice(model, "spectrum", "spectrum of the targets", Object.keys(SPECTRA)),
    slider(model, "n", { label: "number of singular values", min: 5, max: 40, step: 1 }),
    size,
    slider(model, "theta_bar", { label: "retain probability θ̄", min: 0.02, max: 1, step: 0.02 }),
  ];
  const r = () => Math.min(model.get("r"), model.get("n"));
  mount(model, el, ["spectrum", "n", "r", "theta_bar"], controls, () => dropblockFrame(model.get("spectrum"), model.get("n"), r(), model.get("theta_bar")));
}
