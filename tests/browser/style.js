// Some computed styles of the first element that the query finds.
(query) => {
  const style = getComputedStyle(document.querySelector(query));
  const keys = ["color", "backgroundColor", "position", "display", "listStyleType", "textDecorationLine", "fontWeight",
    "overflowX", "filter", "fontFamily"];
  return Object.fromEntries(keys.map((key) => [key, style[key]]));
}
