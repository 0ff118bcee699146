// What a page does in the browser: theme, menu, copying, the mark in the table of contents, search. Nothing is fetched
// from elsewhere; the search index is a script beside the pages, so all of this works from a folder without a server too.
"use strict";
const one = (query, within = document) => within.querySelector(query);
const all = (query, within = document) => [...within.querySelectorAll(query)];

// ---- theme: the system's until the button is pressed ----
const root = document.documentElement, themeButton = one("button.theme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);
const showTheme = () => themeButton.setAttribute("aria-pressed", isDark());
themeButton.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* not kept where storage is closed */ }
  showTheme();
});
systemDark.addEventListener("change", showTheme);
showTheme();

// ---- menu ----
const side = one(".side"), menuButton = one("button.menu");
function openMenu(open) {
  side.classList.toggle("open", open);
  menuButton.setAttribute("aria-expanded", open);
}
menuButton.addEventListener("click", () => openMenu(!side.classList.contains("open")));
addEventListener("keydown", (event) => event.key === "Escape" && openMenu(false));
one(".side a[aria-current]")?.scrollIntoView({ block: "nearest" });

// ---- copying code ----
async function copy(text) {
  try { return await navigator.clipboard.writeText(text); } catch { /* not a secure page */ }
  const area = document.body.appendChild(Object.assign(document.createElement("textarea"), { value: text }));
  area.select();
  document.execCommand("copy");
  area.remove();
}
for (const block of all(".code")) {
  const button = Object.assign(document.createElement("button"), { className: "plain copy", type: "button", textContent: "Copy" });
  button.addEventListener("click", async () => {
    await copy(one("pre", block).textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  block.append(button);
}

// ---- formulas in the text: one that is wider than the line scrolls ----
function fitFormulas() {
  const right = one("main").getBoundingClientRect().right + 1;
  for (const formula of all('main math[display="inline"]')) {
    const place = formula.closest(".unbroken") ?? formula;
    if (place.getBoundingClientRect().right <= right || formula.closest(".wide, .scroll")) continue;
    const frame = Object.assign(document.createElement("span"), { className: "wide" });
    place.replaceWith(frame);
    frame.append(place);
  }
}
fitFormulas();
addEventListener("resize", fitFormulas);
document.fonts?.ready.then(fitFormulas);

// ---- where the reader is ----
const marks = new Map(all(".toc a").map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver((seen) => {
  const top = seen.find((entry) => entry.isIntersecting);
  if (!top) return;
  for (const link of marks.values()) link.classList.remove("now");
  marks.get(top.target.id)?.classList.add("now");
}, { rootMargin: "-60px 0px -70% 0px" });
for (const heading of all("main :is(h2, h3)[id]")) watcher.observe(heading);

// ---- search ----
const finder = one("dialog.finder"), field = one("input", finder), list = one("ol", finder);
let rows = null;
function load() {
  if (rows) return Promise.resolve(rows);
  return new Promise((done, failed) => {
    const script = Object.assign(document.createElement("script"), { src: "search_index.js", onerror: failed });
    script.onload = () => done((rows = SEARCH.map((row) => ({ row, lower: row.map((part) => part.toLowerCase()) }))));
    document.head.append(script);
  });
}
const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const begins = (word) => new RegExp("(?<![\\p{L}\\d])" + word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "u");

// "page 53" is found as 53.
const wordsOf = (text) => text.toLowerCase().replace(/\bpages?\s+(?=\d)/g, "").split(/\s+/).filter(Boolean);

// Every word must begin a word of the row. A name counts most, then the title of a page, a heading, the text. The sections
// about claims repeat the titles of the pages that derive them, and come after these.
function score({ row, lower: [, title, heading, text] }, words, patterns) {
  let sum = 0;
  const isName = row.length > 4, ofTitle = isName ? 0 : heading ? 4 : 40;
  for (const [k, word] of words.entries()) {
    const found = (part, weight) => (patterns[k].test(part) ? weight : 0);
    const name = isName && heading === word ? 100 : 0;
    const value = name + found(title, ofTitle) + found(heading, 20) + found(text, 2);
    if (!value) return 0;
    sum += value;
  }
  return heading && !isName && /^(79[a-z]*|80) /.test(title) ? sum / 8 : sum;
}
function search(text) {
  const words = wordsOf(text), patterns = words.map(begins);
  if (!words.length) return [];
  return rows.map((entry) => [score(entry, words, patterns), entry.row]).filter(([value]) => value)
    .sort((a, b) => b[0] - a[0]).slice(0, 15).map(([, row]) => row);
}
function excerpt(text, words) {
  const found = Math.max(0, Math.min(...words.map((word) => text.toLowerCase().search(begins(word))).filter((k) => k >= 0), text.length));
  const start = found === text.length || found < 60 ? 0 : text.indexOf(" ", found - 50) + 1;
  const shown = escaped((start ? "… " : "") + text.slice(start, start + 150) + (text.length > start + 150 ? " …" : ""));
  return words.reduce((all, word) => all.replace(new RegExp(begins(escaped(word)), "giu"), (hit) => `<mark>${hit}</mark>`), shown);
}
function show() {
  const words = wordsOf(field.value), found = search(field.value);
  list.innerHTML = found.map(([address, title, heading, text, module]) => {
    const head = module ? `<code>${escaped(heading)}</code>` : escaped(heading || title);
    const place = module ? `adaptive_dropout.${module}` : heading ? title : "";
    return `<li><a href="${escaped(address)}"><b>${head}</b> <i>${escaped(place)}</i><small>${excerpt(text, words)}</small></a></li>`;
  }).join("") || (words.length ? '<li class="none">Nothing found.</li>' : "");
}
function openFinder() {
  if (!finder.open) finder.showModal();
  field.select();
  load().then(show, () => { list.innerHTML = '<li class="none">The search index is missing.</li>'; });
}
one("button.search").addEventListener("click", openFinder);
addEventListener("keydown", (event) => {
  const typing = /^(input|textarea|select)$/i.test(event.target.tagName) || event.target.isContentEditable;
  const key = (event.key === "/" && !typing) || (event.key === "k" && (event.ctrlKey || event.metaKey));
  if (key) { event.preventDefault(); openFinder(); }
});
field.addEventListener("input", () => rows && show());
finder.addEventListener("click", (event) => {
  if (event.target === finder || event.target.closest("li a")) finder.close();
});
finder.addEventListener("keydown", (event) => {
  const links = all("a", list), now = links.indexOf(document.activeElement);
  if (event.key === "Escape") finder.close();
  else if (event.key === "ArrowDown") (links[now + 1] ?? links[0])?.focus();
  else if (event.key === "ArrowUp") (links[now - 1] ?? field).focus();
  else if (event.key === "Enter" && now < 0) links[0]?.click();
  else return;
  event.preventDefault();
});

// ---- explorers ----
if (one(".anywidget")) {
  document.head.append(Object.assign(document.createElement("script"), { src: "anywidget_host.js" }));
}
