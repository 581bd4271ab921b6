"""Names and texts of a user are shown as they are, in every medium."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib import cbook
from matplotlib.text import Text

from reminding.lab.show import figures, growth, plots, terminal
from reminding.lab.show.assets import data, whole_page
from reminding.lab.show.charts import curves_chart, dots_chart, growth_chart
from reminding.lab.show.escaping import (
    for_chart,
    for_figure,
    for_file_name,
    for_html,
    for_link,
    for_markdown,
    for_terminal,
    visible,
)
from reminding.lab.show.growth import Growth, Panel
from reminding.lab.show.plots import Curve
from reminding.lab.show.tables import Table

HOSTILE = (
    r"a $\frac$ b",
    "[bold]x[/bold]",
    "[/x]",
    "\x1b[31mred",
    "<b>&amp;",
    "_hidden",
    ":smile:",
    "a\nb",
    "\udcff",
)

MARKS: tuple[str, ...] = ("%HEADING%", "%OPENING%", "%CONTENTS%", "%SECTIONS%", "%LIBRARY%", "%SCRIPT%")


def test_every_character_is_shown() -> None:
    assert visible("plain 1 é 日 🙂") == "plain 1 é 日 🙂"
    assert visible("\x1b[31m\x00\x7f\x9b") == r"\x1b[31m\x00\x7f\x9b"
    assert visible("a\nb\u2028c\u202ed\udcff") == r"a\nb\u2028c\u202ed\udcff"
    assert visible("a\nb", keep="\n") == "a\nb"


def test_each_medium_has_its_own_escape() -> None:
    assert for_terminal("a\n\tb\r\x1b[0m") == "a\n\tb\\r\\x1b[0m"
    assert for_terminal("5 °C 🙂", "ascii") == r"5 \xb0C \U0001f642"
    assert for_figure("$5 and $6") == r"\$5 and \$6"
    assert for_figure("_x") == " _x"
    assert for_chart('<b> & "') == '&lt;b&gt; &amp; "'
    assert for_html('<b> "\x1b') == r"&lt;b&gt; &quot;\x1b"
    assert for_markdown("k_top | *a* _b_ [x](y) `c` <d> $e$") == (
        r"k_top &#124; \*a\* \_b\_ \[x\](y) \`c\` \<d\> \$e\$"
    )
    assert for_link(Path("a b/c#d?.png")) == "a%20b/c%23d%3F.png"
    assert for_link("é\udcff") == "%C3%A9%FF"
    assert for_file_name("a/b $x$.1-") == "a-b-x-.1"
    assert for_file_name("///") == "unnamed"
    assert for_file_name("a" * 300 + " seed 7") == "a" * 113 + "-seed-7"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that would be saved, drawn."""
    saved: list[Any] = []

    def keep(figure: Any, _: Path) -> None:
        figure.draw_without_rendering()
        saved.append(figure)

    monkeypatch.setattr(plots, "save", keep)
    monkeypatch.setattr(figures, "save", keep)
    return saved


def literal(figure: Any, text: str) -> bool:
    """Whether a figure has a text that shows `text` and is no formula."""
    shown = [each.get_text() for each in figure.findobj(Text) if not cbook.is_math_text(each.get_text())]
    return any(visible(text) in each.replace(r"\$", "$") for each in shown)


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", HOSTILE)
def test_figures_draw_any_name(name: str, drawn: list[Any], tmp_path: Path) -> None:
    curves = [Curve(name, [1, 2], [0.5, 0.6], [(0.4, 0.6), (0.5, 0.7)]), Curve("b", [1, 2], [0.5, 0.6])]
    path = tmp_path / "a.png"
    plots.learning_curves(curves, name, name, path, (0.1, name))
    plots.length_curves(curves, name, name, path)
    plots.occlusion_curves(curves, name, name, path)
    plots.seed_dots([(name, [1.0, 2.0])], name, name, path)
    panel = Panel(name, [Growth(name, name, [1, 2], [3.0, 4.0])])
    growth.growth_curves([panel], name, name, path)
    plots.recall_map([[0], [1]], [[0], [1]], title=name, input=[0, 1], marks=[name, ""], path=path)
    plots.credit_map([2], [1], [1.0], steps=2, title=name, path=path)
    assert len(drawn) == 7
    assert all(literal(figure, name) for figure in drawn)
    legend = [text.get_text().strip() for text in drawn[0].axes[0].get_legend().get_texts()]
    assert legend == [for_figure(name).strip(), "b", for_figure(name).strip()], "the curves and the level"


@pytest.mark.parametrize("name", HOSTILE)
def test_the_terminal_shows_any_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say(name)
    terminal.show_table(name, [name, "n"], [[name, name]])
    with terminal.Status() as status:
        status.update(name)
        status.done(name)
    with terminal.LiveDisplay(name, 2) as display:
        display.update(1, 0.5)
        display.evaluated(1, name, 0.25)
        display.warn(1, name)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert printed.count(for_terminal(name).split("\n")[0]) >= 8


def test_a_terminal_without_a_character_gets_its_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    terminal.say("5 °C")
    assert raw.getvalue() == b"5 \\xb0C\n"


@pytest.mark.parametrize("name", HOSTILE)
def test_charts_keep_any_name(name: str) -> None:
    curve = json.loads(curves_chart([Curve(name, [1], [0.5])], "x", name, (0.1, name)))
    assert curve["data"][0]["name"] == for_chart(name)
    assert curve["layout"]["annotations"][0]["text"] == for_chart(name)
    dots = json.loads(dots_chart([(name, [1.0])], "x"))
    assert dots["data"][0]["y"] == dots["layout"]["yaxis"]["categoryarray"] == [for_chart(name)]
    grown = json.loads(growth_chart(Panel(name, [Growth(name, "a", [1], [2.0])]), "x"))
    assert grown["data"][0]["name"] == for_chart(name)


def test_a_method_that_is_called_by_a_number_is_no_number() -> None:
    assert json.loads(dots_chart([("2020", [1.0])], "x"))["layout"]["yaxis"]["type"] == "category"


@pytest.mark.parametrize("name", HOSTILE)
def test_pages_and_tables_keep_any_name(name: str) -> None:
    page = whole_page(name, [], "report.html", dict.fromkeys(MARKS, ""))
    assert f"<title>{for_html(name)}</title>" in page
    page.encode("utf-8")
    assert json.loads(data({"a": [name]})) == {"a": [visible(name)]}
    assert "</script" not in data(["</script>"])
    text = Table("", [name], [[name]], [name]).markdown()
    assert text.splitlines()[0] == f"| {for_markdown(name)} |"
    text.encode("utf-8")


def test_numbers_that_json_lacks_are_null_in_a_page() -> None:
    assert data({"a": [1.5, float("nan"), (float("-inf"),)]}) == '{"a":[1.5,null,[null]]}'
