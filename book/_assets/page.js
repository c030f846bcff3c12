// What scrolls sideways must be seen to, and be reachable by keyboard: while it scrolls it has a tab stop and a name, and the
// edge behind which there is more fades (custom.css).
(() => {
  const KINDS = [
    [".bd-article mjx-container[display]", "Equation"],
    [".bd-article pre", "Code"],
    [".bd-article .pst-scrollable-table-container", "Table"],
    [".bd-article .cell_output > .output", "Output"],
  ];
  const edges = (element) => {
    const hidden = element.scrollWidth - element.clientWidth;
    const [left, right] = [element.scrollLeft > 1, hidden - element.scrollLeft > 1];
    element.toggleAttribute("data-more-left", left);
    element.toggleAttribute("data-more-right", right);
  };
  const watched = new WeakSet();
  const mark = () => {
    for (const [selector, name] of KINDS) {
      for (const element of document.querySelectorAll(selector)) {
        const scrolls = element.scrollWidth > element.clientWidth + 1;
        if (scrolls) {
          element.tabIndex = 0;
          element.setAttribute("role", "region");
          element.setAttribute("aria-label", `${name}, scrolls sideways`);
          if (!watched.has(element)) element.addEventListener("scroll", () => edges(element), { passive: true });
          watched.add(element);
        } else if (element.getAttribute("role") === "region") {
          for (const attribute of ["tabindex", "role", "aria-label"]) element.removeAttribute(attribute);
        }
        if (scrolls || watched.has(element)) edges(element);
      }
    }
  };
  const observer = new ResizeObserver(mark);
  addEventListener("load", () => {
    mark();
    observer.observe(document.body);
    for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", mark);
  });
})();

// Paper is white: print with the light theme, whichever is on the screen.
(() => {
  const root = document.documentElement;
  let before = null;
  const toPaper = () => {
    before ??= root.dataset.theme;
    root.dataset.theme = "light";
  };
  const toScreen = () => {
    if (before !== null) root.dataset.theme = before;
    before = null;
  };
  addEventListener("beforeprint", toPaper);
  addEventListener("afterprint", toScreen);
  const printing = matchMedia("print");
  printing.addEventListener("change", () => (printing.matches ? toPaper() : toScreen()));
})();
