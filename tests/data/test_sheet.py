"""The browsable sheet: what stands in the page, where its pictures lie, what a browser draws."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from entries import an_entry
from thyrojax.data import sheet
from thyrojax.data.crop import AROUND_BOX, Window, crop_opencv, is_cut, window
from thyrojax.data.looking import Entry, LookedAt
from thyrojax.data.records import Box
from thyrojax.data.sheet import Cuts, write_sheet
from thyrojax.data.sheet_page import script_json
from thyrojax.errors import ConfigError, DataError, ThyrojaxError

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def grey_frame(index: int) -> np.ndarray:
    return np.full((90, 120), 100, np.uint8)


def looked_at(
    entries: list[Entry], frame: Callable[[int], np.ndarray] = grey_frame, **info: Any
) -> LookedAt:
    known = {
        "source": "csv",
        "subject": "thyroid nodules",
        "label_names": ["benign", "malignant"],
        "n_nodules": len(entries),
    }
    return LookedAt("noise", known | info, tuple(entries), frame)


class _Scripts(HTMLParser):
    """The page's elements that hold or load something."""

    def __init__(self) -> None:
        super().__init__()
        self.data = ""
        self.addresses: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self._inside = tag == "script" and given.get("id") == "data"

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.data += data


def content_of(page: Path) -> dict[str, Any]:
    parser = _Scripts()
    parser.feed(page.read_text())
    content: dict[str, Any] = json.loads(parser.data)
    return content


@pytest.mark.parametrize("border", sheet.BORDERS)
def test_every_window_of_the_page_is_the_crop_module_s(border: Any, tmp_path: Path) -> None:
    boxes = [Box(30, 20, 70, 50), Box(0, 0, 9, 41), Box(101, 60, 120, 90), Box(5, 40, 118, 47)]
    entries = [an_entry(i, box=box) for i, box in enumerate(boxes)]
    cuts = Cuts((0, 7, 50), AROUND_BOX, border)
    write_sheet(looked_at(entries), tmp_path / "sheet.html", cuts)
    for entry, shown in zip(entries, content_of(tmp_path / "sheet.html")["entries"], strict=True):
        numbers = iter(np.reshape(shown["windows"], (-1, 5)).tolist())
        for margin in cuts.margins:
            for shape in cuts.shapes:
                *edges, flags = next(numbers)
                expected = window(entry.box, margin, shape, border, entry.height, entry.width)
                assert Window(*edges) == expected
                assert bool(flags & sheet.CUT) == is_cut(entry.box, margin, shape)


def test_sides_where_a_window_leaves_its_frame_are_named() -> None:
    # A window of 60 px around a 20x20 box at the top left: 20 px out on both sides.
    numbers = sheet.window_numbers(an_entry(box=Box(0, 0, 20, 20)), Cuts((20,), ("square",)))
    assert numbers == [-20, -20, 60, 60, sheet.LEFT | sheet.TOP]
    numbers = sheet.window_numbers(an_entry(box=Box(110, 50, 120, 90)), Cuts((0,), ("square",)))
    assert numbers == [110, 65, 10, 10, sheet.CUT]
    assert sheet.outside(Window(100, 80, 21, 11), 90, 120) == sheet.RIGHT | sheet.BOTTOM
    assert sheet.outside(Window(100, 80, 20, 10), 90, 120) == 0


def test_inputs_are_those_of_the_network_a_row_a_margin_a_column_a_shape() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (90, 120), np.uint8)
    entry, cuts = an_entry(), Cuts((0, 30), ("square", "rectangle"))
    drawn = sheet.draw_inputs(frame, entry, cuts)
    assert drawn.shape == (2 * sheet.INPUT, 2 * sheet.INPUT)
    cut = window(entry.box, 30, "rectangle", "constant", 90, 120)
    expected = cv2.resize(
        crop_opencv(frame, cut, 384, "constant"), (sheet.INPUT, sheet.INPUT), interpolation=3
    )
    np.testing.assert_allclose(drawn[sheet.INPUT :, sheet.INPUT :], expected, atol=0.51)


def test_sector_outline_holds_the_sector_and_none_is_drawn_where_none_stands_out() -> None:
    frame = np.zeros((200, 300), np.uint8)
    frame[20:180, 50:250] = np.random.default_rng(0).integers(60, 200, (160, 200))
    points = np.array(re.findall(r"([\d.]+) ([\d.]+)", sheet.sector_path(frame)), float)
    np.testing.assert_allclose(points.min(axis=0), (50.5, 20.5), atol=3)
    np.testing.assert_allclose(points.max(axis=0), (249.5, 179.5), atol=3)
    assert sheet.sector_path(np.full((60, 80), 90, np.uint8)) == ""


def test_few_nodules_make_one_file_and_names_from_files_stay_text(tmp_path: Path) -> None:
    hostile = '</script><img src="http://x.invalid/a.png" onerror=alert(1)>'
    entries = [an_entry(0, image_id=hostile, patient_id=hostile, tirads="4a"), an_entry(1)]
    page = tmp_path / "sheet.html"
    looked = looked_at(entries, label_names=["<b>benign", "malignant"])
    assert write_sheet(looked, page, Cuts()) is None
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.html"]
    parser = _Scripts()
    parser.feed(page.read_text())
    assert parser.addresses == ["#sheet"]  # nothing is loaded from anywhere
    assert "<b>benign" not in page.read_text()
    content = json.loads(parser.data)
    assert content["entries"][0]["id"] == hostile
    assert content["entries"][0]["features"] == [0]
    assert content["entries"][1]["features"] == [-1]
    assert content["features"] == [{"name": "TI-RADS", "words": ["4a"]}]
    assert content["frames"][0][3].startswith("data:image/jpeg;base64,")


def test_script_json_cannot_end_its_element() -> None:
    value = {"text": "</SCRIPT><!-- \u2028 \u2029 ü"}
    text = script_json(value)
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == value


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures lie beside the page from four nodules on."""
    monkeypatch.setattr(sheet, "MOST_EMBEDDED", 3)


@pytest.mark.usefixtures("beside")
def test_many_nodules_have_their_pictures_beside_the_page_named_by_position(
    tmp_path: Path,
) -> None:
    count = sheet.MOST_EMBEDDED + 5
    entries = [an_entry(i, frame_key=f"frame-{i % 3}") for i in range(count)]
    page = tmp_path / "look.html"
    folder = write_sheet(looked_at(entries), page, Cuts((10,), ("square",)))
    assert folder == tmp_path / "look_files"
    content = content_of(page)
    assert [entry["frame"] for entry in content["entries"]] == [i % 3 for i in range(count)]
    named = [address for frame in content["frames"] for address in frame[2:4]]
    named += [entry["inputs"] for entry in content["entries"]]
    assert sorted(named) == sorted(f"look_files/{path.name}" for path in folder.iterdir())
    assert all(re.fullmatch(r"look_files/\d{6}(_small|_inputs)?\.jpg", name) for name in named)
    assert cv2.imread(str(tmp_path / content["frames"][1][3]), 0).shape == (90, 120)


def test_limit_shows_the_first_nodules_and_says_so(tmp_path: Path) -> None:
    page = tmp_path / "sheet.html"
    write_sheet(looked_at([an_entry(i) for i in range(9)]), page, Cuts(), limit=4)
    assert len(content_of(page)["entries"]) == 4
    assert "The first 4 of 9 nodules." in page.read_text()
    with pytest.raises(ConfigError, match="limit: found 0"):
        write_sheet(looked_at([an_entry()]), page, Cuts(), limit=0)


@pytest.mark.usefixtures("beside")
def test_a_failed_sheet_leaves_the_one_before(tmp_path: Path) -> None:
    entries = [an_entry(i) for i in range(sheet.MOST_EMBEDDED + 1)]
    page = tmp_path / "sheet.html"
    folder = write_sheet(looked_at(entries), page, Cuts((0,), ("square",)))
    before = page.read_bytes()

    def broken(index: int) -> np.ndarray:
        if index == 2:
            raise DataError("set, record 2: found damage, expected a frame")
        return grey_frame(index)

    with pytest.raises(DataError, match="record 2"):
        write_sheet(looked_at(entries, broken), page, Cuts((0,), ("square",)))
    assert page.read_bytes() == before
    assert folder is not None
    assert len(list(folder.iterdir())) == 3 * len(entries)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sheet.html", "sheet_files"]


@pytest.mark.usefixtures("beside")
def test_a_folder_that_is_no_sheet_s_is_not_replaced(tmp_path: Path) -> None:
    foreign = tmp_path / "sheet_files" / "thesis.txt"
    foreign.parent.mkdir()
    foreign.write_text("chapter 1")
    entries = [an_entry(i) for i in range(sheet.MOST_EMBEDDED + 1)]
    with pytest.raises(ThyrojaxError, match=r"found thesis\.txt in it"):
        write_sheet(looked_at(entries), tmp_path / "sheet.html", Cuts())
    assert foreign.read_text() == "chapter 1"
    assert not (tmp_path / "sheet.html").exists()


@pytest.mark.parametrize(
    ("margins", "shapes"),
    [((), ("square",)), ((-1,), ("square",)), ((5, 5), ("square",)), ((5,), ())],
)
def test_windows_that_make_no_sense_are_refused(margins: Any, shapes: Any) -> None:
    with pytest.raises(ConfigError, match=r"found .*, expected different"):
        Cuts(margins, shapes)


def test_margins_in_millimetres_need_every_nodule_s_spacing(tmp_path: Path) -> None:
    entry = an_entry(pixel_spacing_mm=0.1)
    cuts = Cuts((2,), ("square",), unit="mm")
    # 2 mm are 20 px: the box of 40x30 px at 30, 20 has a window of 80 px at 10, -5.
    assert sheet.window_numbers(entry, cuts) == [10, -5, 80, 80, sheet.TOP]
    with pytest.raises(DataError, match=r"image-1: found no pixel spacing \(of 1 of 2 nodules\)"):
        write_sheet(looked_at([entry, an_entry(1)]), tmp_path / "sheet.html", cuts)


# ---- in a browser, where there is one


@pytest.fixture(scope="module")
def browsed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The page's elements after its script ran, for a view given in the address."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    folder = tmp_path_factory.mktemp("browsed")
    entries = [
        an_entry(0, tirads="2", box=Box(30, 20, 70, 50)),
        an_entry(1, tirads="4a", box=Box(30, 20, 50, 80)),
        an_entry(2, tirads="4a", box=Box(0, 0, 9, 9), image_id="<i>odd</i>"),
    ]
    write_sheet(looked_at(entries), folder / "sheet.html", Cuts((0, 10)))

    def elements(view: str) -> str:
        address = f"{(folder / 'sheet.html').as_uri()}#{view}"
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", address]
        page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return page[page.index('<ul id="sheet"') : page.index("<template")]

    return elements


def test_browser_draws_python_s_numbers(browsed: Callable[[str], str]) -> None:
    page = browsed("margin=10&shape=rectangle&label=1")
    assert page.count("<li ") == 1
    assert '<rect x="20" y="10" width="40" height="80" class="rectangle"' in page
    assert '<rect x="30" y="20" width="20" height="60" class="box"' in page


def test_browser_filters_by_feature_and_by_what_the_window_does(
    browsed: Callable[[str], str],
) -> None:
    page = browsed("f0=1&cut=outside&margin=10&shape=square")
    assert page.count("<li ") == 1
    assert "&lt;i&gt;odd&lt;/i&gt;" in page
    assert "Window leaves the frame at left, top" in page
    page = browsed("cut=cut&margin=0&shape=square")
    assert page.count("<li ") == 1
    assert "Window cuts the nodule" in page
