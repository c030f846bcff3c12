// What scrolls sideways must be reachable by keyboard: give it a tab stop and a name, while it scrolls.
(() => {
  const KINDS = [
    [".bd-article mjx-container[display]", "Equation"],
    [".bd-article pre", "Code"],
    [".bd-article .pst-scrollable-table-container", "Table"],
    [".bd-article .cell_output > .output", "Output"],
  ];
  const mark = () => {
    for (const [selector, name] of KINDS) {
      for (const element of document.querySelectorAll(selector)) {
        if (element.scrollWidth > element.clientWidth + 1) {
          element.tabIndex = 0;
          element.setAttribute("role", "region");
          element.setAttribute("aria-label", `${name}, scrolls sideways`);
        } else if (element.getAttribute("role") === "region") {
          for (const attribute of ["tabindex", "role", "aria-label"]) element.removeAttribute(attribute);
        }
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
