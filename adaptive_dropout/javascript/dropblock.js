// What DropBlock leaves of the singular values of the targets: Pal et al. (2020), Theorem 7.

/** Minimiser a of sum (m - a)^2 + beta * ksupport(a, r), with rho, lambda, the minimum and a lower bound. */
function globalMinimum(m, r, thetaBar) {
  const beta = (1 - thetaBar) / thetaBar, t = level(m, r, beta);
  const cut = (size) => size - beta * t <= 4e-16 * size; // what is left is rounding
  const a = m.map((size) => (cut(size) ? 0 : Math.min(size / (1 + beta), size - beta * t)));
  const tail = (i) => a.slice(i).reduce((sum, x) => sum + x, 0);
  let rho = 1;
  while (rho < r && tail(rho - 1) < (r - rho + 1) * a[rho - 1]) rho++;
  const rest = tail(rho - 1), squares = (list) => list.reduce((sum, x) => sum + x * x, 0);
  const norm = squares(a.slice(0, rho - 1)) + (rest * rest) / (r - rho + 1);
  const value = squares(m.map((size, i) => size - a[i])) + beta * norm;
  const w = m.map((size, i) => (beta > 0 ? Math.min(Math.max(a[i], rest / (r - rho + 1)), size / beta) : size));
  const along = w.reduce((sum, x, i) => sum + x * m[i], 0);
  const energy = (1 - thetaBar) * squares(w) + thetaBar * squares(w.slice(0, r));
  const bound = energy > 0 ? (1 - thetaBar) * along * (along / energy) : 0;
  return { a, rho, lam: a.filter((x) => x > 0).length, value, bound, norm, level: t };
}

/** The t with sum_i clip(m_i / t - beta, 0, 1) = r, which is piecewise linear in 1 / t; 0 if r or fewer are positive. */
function level(m, r, beta) {
  const positive = m.filter((size) => size > 0);
  if (positive.length <= r) return 0;
  const bends = positive.flatMap((size) => [beta / size, (1 + beta) / size]).sort((x, y) => x - y);
  for (let k = 1; k < bends.length; k++) {
    const inside = (bends[k - 1] + bends[k]) / 2, full = positive.filter((size) => size * inside >= 1 + beta).length;
    const part = positive.filter((size) => size * inside > beta && size * inside < 1 + beta);
    const x = (r - full + beta * part.length) / part.reduce((sum, size) => sum + size, 0);
    if (x >= bends[k - 1] * (1 - 1e-12) && x <= bends[k] * (1 + 1e-12)) return 1 / x;
  }
}

const SPECTRA = {
  geometric: (n) => Array.from({ length: n }, (_, i) => 10 * 0.8 ** i),
  linear: (n) => Array.from({ length: n }, (_, i) => 10 * (1 - i / n)),
  flat: (n) => Array(n).fill(10),
  "two steps": (n) => Array.from({ length: n }, (_, i) => (i < n / 4 ? 10 : 2)),
};
