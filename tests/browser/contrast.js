// Contrast (WCAG 2) of every kind of text on the page with the ground behind it: [[element and colour, ratio], ...].
() => {
  const numbers = (text) => text.match(/[\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const hasText = (e) => [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
  const kind = (e) => `${e.localName}.${e.className}`;
  const seen = new Map();
  for (const e of document.querySelectorAll("body *:not(math *, script, style)")) {
    const what = `${kind(e)} in ${kind(e.parentElement)} in ${kind(e.parentElement.parentElement)}`;
    if (seen.has(what) || !hasText(e) || !e.checkVisibility()) continue;
    const one = luminance(numbers(getComputedStyle(e).color)), two = luminance(ground(e));
    seen.set(what, (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05));
  }
  return [...seen].map(([what, ratio]) => [what, Math.round(100 * ratio) / 100]);
}
