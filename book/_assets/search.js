// Excerpts of results are prose: code, what it printed, drawings and buttons are left out before a passage is chosen.
(() => {
  const FURNITURE =
    "nav, #jb-print-docs-body, .headerlink, script, style, svg, math, mjx-container, button, .mnv3-widget, .cell_input, .cell_output > .output, .highlight, " +
    ".math, details > summary, dl.field-list, table";
  const BLOCKS = "p, li, dt, dd, td, th, h1, h2, h3, h4, figcaption, div";

  Search.htmlToText = (source, anchor) => {
    const page = new DOMParser().parseFromString(source, "text/html").querySelector('[role="main"]');
    if (!page) return "";
    const part = (anchor && page.querySelector(`#${CSS.escape(anchor.slice(1))}`)) || page;
    // The anchor of a term stands on its name; what it means follows.
    const meaning = part.matches("dt") ? [part, part.nextElementSibling] : [part];
    const texts = meaning.filter(Boolean).map((element) => {
      element.querySelectorAll(FURNITURE).forEach((furniture) => furniture.remove());
      element.querySelectorAll(BLOCKS).forEach((block) => block.append(" "));
      return element.textContent;
    });
    return texts.join(" ").replace(/\s+/g, " ").trim();
  };
})();
