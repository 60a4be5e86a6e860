"""bench.core.text: text from outside stays text in every format; tables keep their columns; amounts read well."""

from __future__ import annotations

import csv
import html as standard_html
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core import text

NASTY = [
    "\x1b[2J\x1b]0;owned\x07",
    "a\nbench: all 5 runs done",
    "a\rb\tc\x00d\x7f\x85",
    "user\u202egnp.exe\u2066\u200f",
    "half \udcff pair",
    "line\u2028par\u2029",
    "invisible\u200b\ufeff\U000e0041",
]


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize("write", [text.printable, text.csv_cell, text.markdown, text.latex, text.html])
def test_every_format_gives_one_line_of_visible_characters_that_utf8_can_hold(write, nasty: str) -> None:  # type: ignore[no-untyped-def]
    shown = write(nasty)
    assert shown.isprintable()
    shown.encode("utf-8")


def test_letters_of_all_scripts_stay_and_what_cannot_be_seen_is_shown() -> None:
    for name in ("花", "тест", "café", "naïve-ß_1", "数据 集", "a\u3000b", "🙂"):
        assert text.printable(name) == name
    assert text.printable("a\nb\x1b\udcff") == r"a\nb\x1b\udcff"


@given(st.text(st.characters()))
def test_printable_is_idempotent_and_lines_only_adds_line_breaks(any_text: str) -> None:
    shown = text.printable(any_text)
    assert text.printable(shown) == shown
    assert all(line == text.printable(line) for line in text.printable_lines(any_text).split("\n"))


@pytest.mark.parametrize(
    "formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", '=HYPERLINK("x")']
)
def test_no_cell_of_a_csv_begins_a_formula(formula: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([text.csv_cell(formula), "next"])
    ((cell, following),) = csv.reader(io.StringIO(file.getvalue()))
    assert cell.startswith("'") and following == "next"
    assert text.csv_cell("lora") == "lora" and text.csv_cell("rank=4") == "rank=4"


def test_markdown_keeps_the_names_of_methods_and_escapes_what_is_markup() -> None:
    assert text.markdown("linear_probe (rank=4,targets=q) 3.5 %") == "linear_probe (rank=4,targets=q) 3.5 %"
    assert text.markdown("_a_") == r"\_a\_"
    assert text.markdown("a|b") == r"a\|b"
    assert text.markdown("a\\|b") == r"a\\\|b"
    assert text.markdown("<img src=x onerror=y>") == "&lt;img src=x onerror=y&gt;"
    assert text.markdown("[x](javascript:y)") == r"\[x\](javascript:y)"
    assert text.markdown("`$x$` **b** ~~s~~") == r"\`\$x\$\` \*\*b\*\* \~\~s\~\~"
    assert text.markdown("https://evil.example www.evil.example") == r"https\://evil.example www\.evil.example"


@given(st.text())
def test_no_markdown_cell_ends_its_column(any_text: str) -> None:
    assert not re.search(r"(?<!\\)(\\\\)*\|", text.markdown(any_text))


@given(st.text())
def test_html_is_text_alone_and_reads_back(any_text: str) -> None:
    class Seen(HTMLParser):
        tags, data = 0, ""

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.tags += 1

        def handle_data(self, data: str) -> None:
            self.data += data

    parser = Seen()
    parser.feed(text.html(any_text))
    parser.close()
    assert (parser.tags, parser.data) == (0, text.printable(any_text))
    assert standard_html.unescape(text.html(any_text)) == standard_html.unescape(
        standard_html.escape(text.printable(any_text))
    )


def test_latex_has_no_active_character_left() -> None:
    shown = text.latex(r"50 % of $x_1$ & {a} # ~ ^ \input{secret}")
    assert shown == (
        r"50 \% of \$x\_1\$ \& \{a\} \# \textasciitilde{} \textasciicircum{} \textbackslash{}input\{secret\}"
    )


def test_plain_names_are_their_own_file_names_and_no_two_names_share_a_file() -> None:
    assert text.file_name("pocket") == "pocket"
    assert text.file_name("pocket", "other-v1", "random") == "pocket@other-v1@random"
    names = [
        ("тест",),
        ("花",),
        ("folder/a",),
        ("folder-a",),
        ("folder:a",),
        ("Folder-a",),
        ("folder\na",),
        ("",),
        (".",),
        ("..",),
    ]
    names += [("a", "b"), ("a@b",), ("a", "", "b"), ("x" * 300,), ("x" * 301,), ("-",), ("--help",), ("\udcff",), ()]
    files = [text.file_name(*name) for name in names]
    assert len({file.lower() for file in files}) == len(files)
    for file in files:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]*", file) and len(file) <= 100


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_different_parts_have_different_files(one: list[str], other: list[str]) -> None:
    assert (one == other) == (text.file_name(*one).lower() == text.file_name(*other).lower())


def test_columns_stand_below_each_other_also_where_characters_are_wide() -> None:
    assert text.table([("method", "a"), ("lora", "1.0"), ("花花", "10.0")]) == [
        "method     a",
        "lora     1.0",
        "花花    10.0",
    ]
    assert text.columns([("e\u0301", "x"), ("ab", "y")]) == ["e\u0301   x", "ab  y"]
    assert text.table([]) == [] and text.columns([]) == []
    assert text.table([("a\nb", "c")]) == [r"a\nb  c"]


def test_a_table_that_is_too_wide_goes_on_below_beside_the_same_names() -> None:
    rows = [("method", "digits", "textures", "count"), ("lora", "1.0", "2.0", "3.0")]
    assert text.table(rows, width=25, rule=True) == [
        "method  digits  textures",
        "------  ------  --------",
        "lora       1.0       2.0",
        "",
        "method  count",
        "------  -----",
        "lora      3.0",
    ]
    assert max(map(len, text.table(rows, width=5))) == len("method  textures")  # nothing is cut in a number
    assert text.columns(rows, width=9) == ["method  …", "lora    …"]


@given(st.integers(2, 20), st.integers(20, 60))
def test_a_table_fits_the_width_and_shows_every_column_once(count: int, width: int) -> None:
    heads = [f"c{index}" for index in range(count)]
    lines = text.table([("name", *heads), ("row", *map(str, range(count)))], width=width)
    assert max(map(len, lines)) <= width
    assert [word for line in lines if line.startswith("name") for word in line.split()[1:]] == heads


def test_text_is_cut_at_columns_not_characters() -> None:
    assert text.shorten("花花花", 5) == "花花…"
    assert text.shorten("花花花", 4) == "花…"
    assert text.shorten("lora", 4) == "lora"


def test_amounts_read_well() -> None:
    assert [text.counted(number, "run") for number in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
    assert [text.duration(s) for s in (45, 720, 12600, 500_000)] == ["45 s", "12 min", "3.5 h", "5.8 days"]
