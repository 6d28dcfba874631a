// pymdownx.arithmatex leaves equations as \(...\) and \[...\] in elements of this class.
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".arithmatex")) {
    const tex = element.textContent;
    katex.render(tex.slice(2, -2), element, { displayMode: tex.startsWith("\\[") });
  }
});
