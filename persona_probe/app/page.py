"""The page of the demo in Gradio. Its parts are in `components`, what happens in `events`, what answers look
like in `html`."""

import gradio as gr
import htpy as h

from persona_probe.app import style
from persona_probe.app.answers import Answers
from persona_probe.app.components import Asking, Board, Controls, Look, safe
from persona_probe.app.events import Events
from persona_probe.app.html import NOTE, PAGE_CSS
from persona_probe.pages.html import Node
from persona_probe.pages.token_view import CSS as TOKEN_CSS

CSS = TOKEN_CSS + PAGE_CSS + style.CSS


def build(source: Answers, look: Look) -> gr.Blocks:
    """The whole page. Every visitor has a conversation of their own; models are shared and asked one at a
    time."""
    page = gr.Blocks(title="persona_probe", analytics_enabled=False, fill_width=True)
    with page:
        gr.HTML(safe(_title(source, look)), elem_id="title")
        asking = Asking(look)
        with gr.Row(equal_height=False):
            controls = Controls(source.direction, look)
            board = Board(look)
        Events(source, look, asking, controls, board).connect()
        for mode, box in (("talk", controls.talk_mode), ("text", controls.show_text)):
            box.change(None, box, None, js=style.TOGGLE[mode])
            page.load(None, box, None, js=style.TOGGLE[mode])
        dark = "true" if look.theme == "dark" else "false"
        page.load(None, None, None, js=style.TOGGLE["theme"] % dark)
    return page


def _title(source: Answers, look: Look) -> Node:
    kind = "REPLAY of recorded answers, no model is loaded" if look.replay else "live"
    names = f"base {look.names.get('base', '?')}, tuned {look.names.get('tuned', '?')}"
    pair = f"{names}; {source.direction.method} direction of {source.direction.hook_point}; {kind}"
    return h.fragment[
        h.h1["One question, four models"], h.p(".hide-in-talk")[pair], h.p(".content-note")[NOTE]
    ]
