"""The dialogue in which a person writes the prompt of one track, over `PromptSession`.

Works on a terminal and from a pipe, a command a line. Nothing is written before `save`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.errors import LuthierError, RequestError
from luthier.stopping import uninterrupted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from luthier.music.dataset.prompt_session import PromptSession

# command -> (short form, what follows it, what it does)
COMMANDS = {
    "style": ("s", "ID, name or number, ...", "take these styles; several are merged"),
    "styles": ("l", "", "list the styles"),
    "add": ("a", "TAG, TAG", "add tags;  add mood: TAG  for one that is not in the taxonomy"),
    "remove": ("r", "TAG or number, ...", "remove tags"),
    "mood": ("m", "", "draw other moods from those of the styles"),
    "bpm": ("b", "NUMBER", "correct the tempo"),
    "key": ("k", "KEY", 'correct the key, e.g. "F# minor"'),
    "lyrics": ("y", "sheet | none", "type lyrics, up to a line with a full stop only"),
    "undo": ("u", "", "take the last step back"),
    "redo": ("o", "", "take the last undo back"),
    "save": ("w", "", "write the prompt, lyrics and metadata files"),
    "quit": ("q", "", "leave; asks when something is not saved"),
    "help": ("?", "", "this list"),
}
_COLOURS = {
    "genre": "bold magenta",
    "mood": "yellow",
    "instruments": "cyan",
    "tempo": "bold green",
    "production": "blue",
    "atmosphere": "bright_blue",
    "vocal_type": "red",
}
_LYRICS_END = "."


def run(
    args: argparse.Namespace, audio_file: Path, presets: Path | None, output_dir: Path | None
) -> int:
    """Open the dialogue for one file; 0 when the person leaves it, 1 when saving did not work."""
    from rich.console import Console

    from luthier.cli import common
    from luthier.music.dataset.prompt_session import open_session
    from luthier.music.dataset.styles import load_presets, load_taxonomy

    session = open_session(
        audio_file,
        load_presets(presets),
        load_taxonomy(presets),
        output_dir=output_dir,
        seed=getattr(args, "seed", 42),
    )
    # With --json, standard output is the result alone.
    console = Console(stderr=args.json, highlight=False, quiet=args.quiet)
    dialogue = Dialogue(session, console, dry_run=args.dry_run)
    dialogue.run()
    saved = dialogue.saved
    value = {"audio_file": str(audio_file), "saved": saved is not None, "prompt": saved}
    if args.json:
        common.emit(args, value, "")
    return int(dialogue.failed)


class Dialogue:
    """Reads commands, shows what they did and what the prompt now is."""

    def __init__(self, session: PromptSession, console: Console, *, dry_run: bool) -> None:
        self.session, self.console, self.dry_run = session, console, dry_run
        self.saved: dict[str, object] | None = None
        self.failed = False  # the last save did not work
        self._steps: dict[str, Callable[[str], str]] = {
            "style": lambda rest: session.choose_styles(_words(rest, session)),
            "add": session.add,
            "remove": session.remove,
            "mood": lambda rest: session.change_moods(),
            "bpm": session.set_bpm,
            "key": session.set_key,
            "lyrics": self._lyrics,
            "undo": lambda rest: session.undo(),
            "redo": lambda rest: session.redo(),
        }

    def run(self) -> None:
        """Until the person leaves. Ctrl-D leaves, Ctrl-C stops luthier; neither writes anything."""
        _complete_words(self.session)
        music = self.session.music
        tempo = f"{self.session.bpm:g} BPM" if self.session.bpm else "no tempo found"
        self._say(
            f"{self.session.audio_file.name}: {music.duration_s:.0f} s, {tempo}, "
            f"{self.session.key or 'no key found'}. Type help for the commands."
        )
        self._show()
        try:
            while self._obey(self._read("> ")):
                pass
        except EOFError:
            self._say("Left." if self.session.is_saved else "Left without saving the last steps.")
        except KeyboardInterrupt:
            self._say("Stopped." if self.session.is_saved else "Stopped without saving.")
            raise

    def _obey(self, line: str) -> bool:
        """Do what a line says; False when the person leaves."""
        word, _, rest = line.strip().partition(" ")
        if not word:
            return True
        command = _command(word.lower())
        try:
            if command == "quit":
                return not self._may_leave()
            if command == "save":
                self._save()
            elif command == "styles":
                self._list_styles()
            elif command == "help":
                self._help()
            elif command is None:
                from luthier.spelling import nearest

                near = nearest(word, COMMANDS)
                raise RequestError(f"there is no command {word!r}; the nearest is {near!r}.")
            else:
                self._say(self._steps[command](rest.strip()))
                self._show()
        except LuthierError as error:
            # Of saving, too: what was typed is still there, and may go elsewhere.
            self._say(str(error), style="red")
            self.failed = self.failed or command == "save"
        return True

    def _save(self) -> None:
        with uninterrupted():
            prompt = self.session.save(dry_run=self.dry_run)
        self.saved, self.failed = asdict(prompt), False
        name = self.session.output_dir / f"{self.session.track_id}_prompt.txt"
        self._say(f"Would be saved: {name}" if self.dry_run else f"Saved: {name}", style="green")

    def _may_leave(self) -> bool:
        if self.session.is_saved:
            return True
        answer = self._read("The last steps are not saved. Leave all the same? [y/N] ")
        return answer.strip().lower() in ("y", "yes")

    def _lyrics(self, rest: str) -> str:
        if rest:
            return self.session.set_lyrics(rest)
        self._say("Type the lyrics; a line with a full stop only ends them.")
        lines: list[str] = []
        while (line := self._read("| ")).strip() != _LYRICS_END:
            lines.append(line)
        return self.session.set_lyrics("\n".join(lines))

    def _read(self, prompt: str) -> str:
        if self.console.stderr or self.console.quiet:
            # Python writes the prompt of input() to standard output.
            self.console.print(prompt, end="", markup=False)
            return input()
        return input(prompt)

    def _say(self, line: str, style: str = "dim") -> None:
        self.console.print(line, style=style, markup=False, soft_wrap=True)

    def _show(self) -> None:
        """The prompt as it would be written, and its tags by category with numbers."""
        from rich.panel import Panel
        from rich.text import Text

        from luthier.music.dataset.captions import MAX_CAPTION, SEPARATOR, fit

        draft = self.session.draft
        text = Text(SEPARATOR).join(
            Text(tag.text, _COLOURS[tag.category]) for tag in fit(draft.tags)
        )
        styles = ", ".join(style.style_id for style in draft.styles)
        length = f"{len(draft.caption)} of {MAX_CAPTION} characters"
        self.console.print(
            Panel(text, title=styles, subtitle=length, title_align="left", subtitle_align="right")
        )
        self.console.print(self._tag_table())
        if draft.left_out:
            names = ", ".join(tag.text for tag in draft.left_out)
            self._say(f"No room for: {names}. Remove something to let them in.", style="yellow")

    def _tag_table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        draft = self.session.draft
        lines: dict[str, Text] = {}
        for number, tag in enumerate(draft.tags, start=1):
            line = lines.setdefault(tag.category, Text())
            look = "dim strike" if tag in draft.left_out else _COLOURS[tag.category]
            line.append(f"{number}\N{NO-BREAK SPACE}", "dim").append(tag.text, look).append("  ")
        lines["lyrics"] = Text(draft.lyrics.splitlines()[0], "dim")
        table = Table(box=None, show_header=False, pad_edge=False)
        for category, line in lines.items():
            table.add_row(Text(category, "dim"), line)
        return table

    def _list_styles(self) -> None:
        from rich.table import Table

        table = Table("no.", "id", "style", "BPM", "tags", box=None)
        for number, style in enumerate(self.session.presets.values(), start=1):
            low, high = style.tempo_range
            tags = ", ".join([*style.base_tags, *style.instruments[:3]])
            table.add_row(str(number), style.style_id, style.name, f"{low}-{high}", tags)
        self.console.print(table)

    def _help(self) -> None:
        for name, (short, words, text) in COMMANDS.items():
            self._say(f"  {short:<3}{f'{name} {words}':<30} {text}", style="none")


def _command(word: str) -> str | None:
    """The command that a word, its short form or its beginning (when only one fits) means."""
    if word in COMMANDS:
        return word
    found = [name for name, row in COMMANDS.items() if word == row[0]]
    found = found or [name for name in COMMANDS if name.startswith(word)]
    return found[0] if len(found) == 1 else None


def _words(text: str, session: PromptSession) -> list[str]:
    """Styles named with commas or spaces; a name that has spaces itself stays one."""
    names = {style.name.lower() for style in session.presets.values()}
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return [w for part in parts for w in ([part] if part.lower() in names else part.split())]


def _complete_words(session: PromptSession) -> None:
    """Line editing, history and the tab key, where the terminal's library is there."""
    if not sys.stdin.isatty():
        return
    try:
        import readline
    except ImportError:
        return
    from luthier.music.dataset.taxonomy import TAG_ORDER

    tags = {tag for name in TAG_ORDER for tag in session.taxonomy.tags(name)}
    words = sorted({*COMMANDS, *session.presets, *tags})

    def complete(text: str, state: int) -> str | None:
        fits = [word for word in words if word.lower().startswith(text.lower())]
        return fits[state] if state < len(fits) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" ,\t\n")
    readline.parse_and_bind("tab: complete")
