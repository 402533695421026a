// Small helps on top of pages that work without them.
"use strict";

// Copy buttons: <div data-copy><code>text</code><button hidden>Copy</button></div>
function armCopyButtons(root) {
  for (const box of root.querySelectorAll("[data-copy]")) {
    const button = box.querySelector("button");
    const text = box.querySelector("code, pre");
    if (!button || !text || !navigator.clipboard || button.dataset.armed) continue;
    button.dataset.armed = "yes";
    button.hidden = false;
    const label = button.innerHTML;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text.textContent.trim());
      button.textContent = "Copied";
      setTimeout(() => { button.innerHTML = label; }, 2000);
    });
  }
}

// A menu closes when a person presses Escape or looks elsewhere.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.querySelector("details.menu[open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// A dangerous form says what it will do: <form data-confirm="Delete the app and its data?">
document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm || event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
}, true);

// A form is sent once: its button rests while the answer is on its way.
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.target.method !== "post" || event.target.hasAttribute("hx-post")) return;
  const button = event.submitter;
  if (button) setTimeout(() => { button.disabled = true; }, 0);
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted) for (const button of document.querySelectorAll("button[disabled]")) button.disabled = false;
});

// A table wider than its box scrolls inside it, so a keyboard must be able to reach the box.
function armScrolling() {
  for (const box of document.querySelectorAll(".table-box")) {
    if (box.scrollWidth <= box.clientWidth) {
      box.removeAttribute("tabindex");
      continue;
    }
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", box.querySelector("caption")?.textContent.trim() || "Table");
  }
}

armCopyButtons(document);
armScrolling();
window.addEventListener("resize", armScrolling);
document.addEventListener("htmx:load", (event) => {
  armCopyButtons(event.target);
  armScrolling();
});
