// What an explorer looks like: colours, sizes, and whether every control has a name.
() => {
  const style = (query) => getComputedStyle(document.querySelector(query));
  const all = (query) => [...document.querySelectorAll(query)];
  const boxes = all("svg, input, select, .ad-words").map((place) => place.getBoundingClientRect());
  const controls = all("input, select");
  return {
    text: style(".ad-explorer svg text").fill,
    dash: style(".ad-two").strokeDasharray,
    wide: innerWidth,
    right: Math.max(...boxes.map((box) => box.right)),
    page: document.documentElement.scrollWidth,
    small: Math.min(...controls.filter((control) => control.offsetParent).map((control) => control.offsetHeight)),
    unnamed: controls.filter((control) => !control.labels[0]?.textContent).length,
  };
}
