// Recall questions answer back. In the text a question is a paragraph, a list of options "(a) …", and a folded box that
// explains them: "**(b)** right because … *(a)*: a hint …". Here the options become buttons that show their own part of the
// box. Without JavaScript, and in a notebook, the list and the box are all there is, and enough.
(() => {
  const MARK = /<(strong|em)>\(([a-z])\)<\/\1>:?/g;

  /** Letter to {right, html} of each option, out of the box's text. */
  function readHints(box) {
    const text = [...box.querySelectorAll("p")].map((paragraph) => paragraph.innerHTML).join(" ");
    const marks = [...text.matchAll(MARK)];
    return Object.fromEntries(
      marks.map((mark, i) => {
        const end = i + 1 < marks.length ? marks[i + 1].index : text.length;
        const hint = text.slice(mark.index + mark[0].length, end).trim();
        const html = hint.charAt(0).toUpperCase() + hint.slice(1);
        return [mark[2], { right: mark[1] === "strong", html }];
      }),
    );
  }

  function enliven(list, box) {
    const hints = readHints(box);
    const said = document.createElement("p");
    said.className = "mnv3-quiz-said";
    said.setAttribute("aria-live", "polite");
    const buttons = [...list.children].map((item) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "mnv3-quiz-option";
      button.innerHTML = (item.querySelector("p") ?? item).innerHTML;
      const letter = button.textContent.trim()[1];
      button.dataset.option = letter;
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => {
        const { right, html } = hints[letter];
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        list.dataset.answered = button.dataset.verdict = right ? "right" : "wrong";
        said.innerHTML = `<strong>(${letter}) ${right ? "Right." : "No."}</strong> ${html}`;
      });
      return button;
    });
    if (buttons.some((button) => !(button.dataset.option in hints))) return;
    [...list.children].forEach((item, i) => item.replaceChildren(buttons[i]));
    list.classList.add("mnv3-quiz");
    list.after(said);
  }

  addEventListener("DOMContentLoaded", () => {
    for (const box of document.querySelectorAll("#recall > details")) {
      const list = box.previousElementSibling;
      if (list?.matches("ul")) enliven(list, box);
    }
  });
})();
