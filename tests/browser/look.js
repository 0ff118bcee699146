// Everything that is wrong with the page that is open, with its ids and its links to pages of the site.
async () => {
  const wrong = [], say = (what, detail) => wrong.push(`${what}: ${String(detail).trim().slice(0, 100)}`);
  const all = (query) => [...document.querySelectorAll(query)];
  await document.fonts.ready;

  // Nothing but what scrolls by itself is wider than the window.
  const scrolls = (e) => e && (/auto|scroll|hidden/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth) {
    const wide = all("main *").filter((e) => e.getBoundingClientRect().right > clientWidth && !scrolls(e.parentElement));
    say("wider than the window", wide.slice(0, 3).map((e) => e.outerHTML.slice(0, 60)).join(" | "));
  }

  // Pictures are there, in their own proportions, with words for those who do not see them.
  const images = [...document.images];
  await Promise.all(images.map((image) => image.decode().catch(() => say("picture does not load", image.src))));
  for (const image of images) {
    const { width, height } = image.getBoundingClientRect();
    if (!width) say("picture is not shown", image.src);
    const stretched = (width / height) / (image.naturalWidth / image.naturalHeight);
    if (!(Math.abs(stretched - 1) < 0.02)) say("picture is stretched", image.src);
    if (!image.alt) say("picture without words", image.src);
  }

  // Formulas are formulas, and no markup is left in the text.
  for (const error of all("merror")) say("formula", error.textContent);
  for (const formula of all("math")) {
    if (formula.checkVisibility() && !formula.getBoundingClientRect().width) say("formula of no width", formula.textContent);
  }
  const markup = /(?<![\w)\]|])\*\*(?=\S)|\]\(|:::|\$|\\[a-zA-Z]+|[\uE000-\uE001]|^\s*#{1,4} |&(amp|lt|gt);|\{\{|\|\s*:?---/;
  const verbatim = "code, pre, annotation, script, style, .anywidget";
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { data, parentElement } = walker.currentNode;
    if (markup.test(data) && !parentElement.closest(verbatim)) say("raw markup", data);
  }

  // One title, a description, a place in the sidebar, no id twice, words on every button.
  const ids = all("[id]").map((e) => e.id), twice = ids.filter((id, k) => ids.indexOf(id) < k);
  if (twice.length) say("id twice", twice);
  if (all("h1").length !== 1) say("titles", all("h1").length);
  if (!all(".side a[aria-current]").length) say("sidebar", "the page is not marked");
  if (!document.querySelector("meta[name=description]").content) say("description", "none");
  for (const button of all("button")) if (!button.textContent.trim() && !button.ariaLabel) say("button without words", button.className);

  const inside = all("a[href]").filter((a) => a.host === location.host);
  const links = inside.map((a) => [a.pathname.slice(1), decodeURIComponent(a.hash.slice(1))]);
  return { wrong, ids, links };
}
