"""Style sheet and script of the demo page. Constants only: nothing that a model or a user wrote ever gets in
here."""

CSS = """
:root { --soft: #57606a; --line: #d0d7de; --ink: #24292f; }
.dark { --soft: #a8b0ba; --line: #3a414b; --ink: #e6e8eb; }
.gradio-container { max-width: 1600px !important; }
#title h1 { margin: 0.2rem 0 0; font-size: 1.5rem; }
#title p { margin: 0.2rem 0; }
.content-note { border-left: 4px solid #b07d00; padding: 0.2rem 0.8rem; }
#status .error { color: var(--error-text-color, #b3261e); font-weight: 600; }
.dose-bar {
  position: relative; height: 0.9rem; border: 1px solid var(--line); border-radius: 4px; margin: 0.2rem 0
  0.4rem;
}
.dose-bar span { position: absolute; top: 0; bottom: 0; }
.dose-bar .zone { background: rgba(0, 158, 115, 0.35); }
.dose-bar .tick { width: 1px; background: var(--soft); }
.dose-bar .here { width: 5px; margin-left: -2px; border-radius: 2px; background: #e6007e; }
.dose small { color: var(--soft); }
#arrows { display: none; }
kbd { border: 1px solid var(--line); border-radius: 3px; padding: 0 0.35em; font-size: 0.9em; }
body.talk .hide-in-talk { display: none !important; }
body.talk .gradio-container {
  max-width: none !important; background: #ffffff; color: #000000; --ink: #000000; --soft: #333333; --line:
  #000000;
}
body.talk.dark .gradio-container {
  background: #000000; color: #ffffff; --ink: #ffffff; --soft: #d0d0d0; --line: #ffffff;
}
body.talk .board, body.talk .question, body.talk .asked, body.talk .tokens-legend {
  font-size: 26px; color: var(--ink);
}
body.talk .answer { border-width: 2px; border-top-width: 8px; }
body.talk #question textarea, body.talk #question input { font-size: 26px; }
body.talk .asked { font-size: 20px; }
body.talk .tokens-read span[data-projection]:hover::after { font-size: 24px; }
"""

# Keys, the veil that stays lifted while an answer grows, talk mode. Runs once when the page has loaded.
SCRIPT = """
() => {
  "use strict";
  const lifted = new Set();
  const sheet = document.head.appendChild(document.createElement("style"));
  // The board is drawn anew with every token, so what was lifted is remembered by name, not on the element.
  const draw = () => {
    sheet.textContent = [...lifted].map(name => `[data-reply="${name}"] { filter: none !important;
      }`).join("\\n");
  };
  document.addEventListener("click", event => {
    const reply = event.target.closest?.("[data-reply].veiled");
    if (!reply || !/^[a-z0-9-]+$/.test(reply.dataset.reply)) return;
    if (!lifted.delete(reply.dataset.reply)) lifted.add(reply.dataset.reply);
    reply.blur();
    draw();
  });
  const press = selector => document.querySelector(selector)?.click();
  const keys = {
    " ": () => press("#ask"), Escape: () => press("#stop"),
    ArrowLeft: () => press("#less"), ArrowRight: () => press("#more"),
    n: () => press("#next"), s: () => press("#sweep"), r: () => { lifted.clear(); draw(); press("#reset"); },
    b: () => press("#show-text input"), t: () => press("#talk input"),
    d: () => press("#control input"), e: () => press("#export"),
  };
  const arms = () => document.querySelectorAll("#arms input[type=checkbox]");
  for (const digit of [1, 2, 3, 4]) keys[digit] = () => arms()[digit - 1]?.click();
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const box = "textarea, select, [contenteditable], input:not([type=checkbox]):not([type=radio])";
    const typing = event.target.closest?.(box);
    if (typing) { if (event.key === "Escape") typing.blur(); return; }
    if (event.key === " " && event.target.closest?.("button, input")) return;
    const act = keys[event.key];
    if (act) { event.preventDefault(); act(); }
  });
}
"""
KEYS = (
    ("space", "ask"),
    ("n", "next question of the list"),
    ("s", "sweep"),
    ("d", "random direction on or off"),
    ("← →", "coefficient"),
    ("1 2 3 4", "arms"),
    ("b", "show or blur text"),
    ("t", "talk mode"),
    ("Esc", "stop, or leave the question"),
    ("r", "new conversation"),
    ("e", "export"),
)
TOGGLE = {
    "talk": (
        "on => { document.body.classList.toggle('talk', on); window.dispatchEvent(new Event('resize')); }"
    ),
    "text": "on => document.body.classList.toggle('show-text', on)",
    "theme": "() => document.body.classList.toggle('dark', %s)",
}
