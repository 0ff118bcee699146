// Notes in `times` how long it takes from a key to the picture that answers it, decoded and ready to be painted.
() => {
  window.times = [];
  let start = 0, last = null;
  const shown = () => [...document.querySelectorAll("img")].find((img) => img.offsetParent && img.src.startsWith("data:"));
  const look = () => {
    const img = shown();
    if (!img || img.src === last) return;
    last = img.src;
    if (start) img.decode().then(() => requestAnimationFrame(() => times.push(performance.now() - start)));
  };
  document.addEventListener("keydown", () => { start = performance.now(); }, true);
  look();
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
}
