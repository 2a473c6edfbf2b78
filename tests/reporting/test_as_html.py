"""The page: whole, safe, self-contained, complete and small."""

import json
import re
import struct
import time
import zlib
from base64 import b64decode
from html.parser import HTMLParser

import pytest
from made_diagnoses import make_deep, make_empty

from isograd.reporting import render
from isograd.reporting._chart import Curve, chart, linear_scale, log_scale, spaced
from isograd.reporting._heat import summary
from isograd.reporting._markup import join, tag
from isograd.reporting._profile import Axis

VOID = {"meta", "img", "input"}


class Page(HTMLParser):
    """A strict reading: every tag is closed by its own end, in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.attributes += [(name, *pair) for pair in attributes]
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def text(self):
        return " ".join(self.words)


@pytest.mark.parametrize("form", ["html", "html-fragment"])
def test_every_page_is_well_formed(any_diagnosis, form):
    page = Page(render(any_diagnosis, form))
    ids = [value for _, key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("form", ["html", "html-fragment"])
def test_nothing_escapes_into_markup(hostile, form):
    text = render(hostile, form)
    page = Page(text)
    assert page.tags.count("script") == (form == "html")  # our own
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert '<script>alert("x")</script>' in page.text()
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]


@pytest.mark.parametrize("form", ["html", "html-fragment"])
def test_nothing_is_fetched(any_diagnosis, form):
    text = render(any_diagnosis, form)
    page = Page(text)
    for _, key, value in page.attributes:
        if key in ("src", "href"):
            assert value.startswith(("data:", "#"))
    assert "@import" not in text
    assert not re.search(r"url\(|https?://|fetch\(|XMLHttp", text)


def test_anchors_lead_somewhere(sick):
    page = Page(render(sick, "html"))
    ids = {value for _, key, value in page.attributes if key == "id"}
    links = [value[1:] for name, key, value in page.attributes if (name, key) == ("a", "href")]
    assert len(links) == 9
    assert set(links) <= ids


def test_the_page_tells_everything(sick):
    text = Page(render(sick, "html")).text()
    for words in (
        "1 error, 1 warning, 1 note",
        "Fix first: gain-mismatch at layers.0 and 19 more",
        "cross_entropy, because the targets are whole numbers",
        "torch.nn.init.kaiming_normal_(layer.weight)",
        "is left out",  # all evidence, not only the first pieces
        "Up to 54 %",
        "×0.24 per layer, back from the loss",
        "50 steps: loss 2.31 → 2.209",
        "where 95 % of random draws would lie",
        "predicted by theory",
        "after 50 steps",
        "fp8 e5m2",
        "the network has no recurrent layer",
        "(16, 48)",  # the shape of the batch
    ):
        assert words in text


def test_a_page_without_numbers_has_no_empty_parts():
    page = Page(render(make_empty(), "html"))
    assert "section" not in page.tags
    assert "figure" not in page.tags


def test_every_control_and_picture_has_a_name(sick):
    page = Page(render(sick, "html"))
    assert page.attributes.count(("svg", "role", "img")) == 3
    assert ("div", "role", "region") in page.attributes
    labels = [value for _, key, value in page.attributes if key == "aria-label"]
    assert "Switch light and dark" in labels
    assert any(
        label.startswith("Gradient, backward: from 1.7e-15 at the first") for label in labels
    )
    assert page.tags.count("h1") == 1
    assert ("html", "lang", "en") in page.attributes


def test_layers_come_worst_first(sick):
    body = render(sick, "html").split("<tbody>")[1]
    names = re.findall(r'<th scope="row">([^<]*)</th>', body)[:39]
    assert names[:20] == [f"layers.{i}" for i in range(20)]
    assert sorted(names[20:]) == sorted(f"acts.{i}" for i in range(19))


def test_the_tree_holds_every_site_and_counts_parameters_once(sick):
    part = render(sick, "html").split('class="tree"')[1].split("</section>")[0]
    assert part.count('class="leaf"') == 39
    sizes = [p.shape[0] * p.shape[1] for p in sick.reading.seen.parameters]
    assert f"39 sites, {sum(sizes):,} parameters" in part


def test_a_deep_network_stays_small_and_quick():
    deep = make_deep(800)
    start = time.process_time()
    text = render(deep, "html")
    assert time.process_time() - start < 3
    assert len(text.encode()) < 1_500_000


def test_a_fragment_is_smaller_than_the_page_and_styles_only_itself(sick):
    fragment = render(sick, "html-fragment")
    assert len(fragment) < len(render(sick, "html")) / 2
    assert fragment.startswith('<div class="isograd"><style>')
    style = fragment.split("<style>")[1].split("</style>")[0]
    style = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)
    depth, head, heads = 0, "", []
    for character in style:
        if character == "{":
            if depth == 0:
                heads.append(head.strip())
            depth += 1
        elif character == "}":
            depth -= 1
            head = ""
        elif depth == 0:
            head += character
    assert depth == 0
    assert all(".isograd" in part for head in heads for part in head.split(","))


def picture(text, which):
    data = b64decode(re.findall(r"data:image/png;base64,([^\"]+)", text)[which])
    width, height = struct.unpack(">II", data[16:24])
    start = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[start - 4 : start])
    raw = zlib.decompress(data[start + 4 : start + 4 + length])
    lines = [raw[i * (width + 1) + 1 : (i + 1) * (width + 1)] for i in range(height)]
    return [list(line) for line in lines]


def test_the_heat_map_shows_the_histograms(sick):
    rows = picture(render(sick, "html"), 1)
    assert len(rows) == 39
    assert all(max(row) == 255 for row in rows)
    peaks = [row.index(255) for row in rows]
    assert peaks == sorted(peaks)
    # 1.7e-15 at the first layer, 1e-3 at the last: 39 binary exponents apart
    assert peaks[-1] - peaks[0] == pytest.approx(39, abs=1)


def test_words_about_a_histogram():
    from isograd.records import EXPONENTS

    row = [0] * len(EXPONENTS)
    for exponent, count in ((-9, 1), (-5, 98), (-2, 1)):
        row[EXPONENTS.index(exponent)] = count
    assert summary(row) == "median 2^-5, 98 % between 2^-9 and 2^-4"
    assert summary([0, 0]) == ""


def test_tips_name_every_point(sick):
    page = Page(render(sick, "html"))
    tips = [json.loads(value) for _, key, value in page.attributes if key == "data-tips"]
    assert [len(found) for found in tips] == [20, 20, 50, 39, 39]
    assert tips[1][0].startswith("layers.0 · depth 1 · 1.7e-15 measured · ")
    assert tips[2][0] == "step 0 · loss 2.31"


def test_markup_escapes_what_is_not_markup():
    assert tag("p", "a<b", None, tag("b", "&"), title='"x"', hidden=True, data_n=3) == (
        '<p title="&quot;x&quot;" hidden data-n="3">a&lt;b<b>&amp;</b></p>'
    )
    assert join("<", tag("i"), None) == "&lt;<i></i>"


def test_edges_of_a_band_never_overflow():
    curve = Curve("x", "seen", [1.0, None, 2.0, float("inf")], [1e9, 1.0, 0.0, 1.0])
    assert curve.edges(-1) == [pytest.approx(0.0, abs=1e-300), None, 2.0, None]
    assert curve.edges(1)[2] == 2.0


def test_a_flat_curve_stands_in_the_middle():
    scale = linear_scale([3.0, 3.0], str)
    assert scale.at(3.0) == 0.5
    assert len(scale.labels) == 1


def test_labels_are_spaced_and_keep_both_ends():
    places = spaced([str(i) for i in range(100)], 5)
    assert [text for _, text in places] == ["0", "25", "50", "74", "99"]
    assert (places[0][0], places[-1][0]) == (0, 1)
    assert spaced(["only"]) == [(0.5, "only")]


def test_a_curve_rises_breaks_and_marks_what_it_cannot_show():
    curve = Curve("x", "seen", [1e-2, 1e-1, None, 1e1, float("nan"), 1e2], [0, 0, 0, 0, 0, 0])
    drawn = chart([curve], log_scale(Axis(-2, 2)), [], style="forward", name="x", marks=[(3, "7")])
    paths = {style: data for data, style in re.findall(r'<path d="([^"]*)" class="(\w+)">', drawn)}
    # 1000 wide, 200 high, zero above: 1e-2 at the foot, 1e2 at the head, nothing joins the gaps
    assert paths["seen"] == "M0.0 200.0L200.0 150.0M600.0 50.0M1000.0 0.0"
    assert paths["sick"] == "M800.0 0V200"
    assert paths["marked"] == "M600.0 50.0h0"
    assert paths["dots"].count("h0") == 4
    assert paths["band"].count("Z") == 3
    assert '<span class="flag" style="left:60.00%">7</span>' in drawn
