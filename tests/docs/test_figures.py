"""The charts are correct: formulas match the layer, curves match measurements, file names match the package."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from torch import Tensor, nn

from docs.figures import calls, charts, deferred, idea, reach
from docs.figures.svg import Picture
from reminding import SAB

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("k_att", "k_trunc"), [(1, 1), (2, 5), (4, 10), (5, 10), (6, 3), (7, 4), (10, 10), (30, 5)])
def test_the_steps_that_a_recall_can_credit(k_att: int, k_trunc: int) -> None:
    """With every memory recalled, the gradient of the last step reaches exactly these steps and the last segment."""
    steps = 30
    x = torch.randn(steps, 1, 2, dtype=torch.float64, requires_grad=True)
    layer = SAB(2, 4, k_top=None, k_att=k_att, k_trunc=k_trunc).double()
    layer(x)[0][-1].sum().backward()
    assert x.grad is not None
    reached = [step + 1 for step in range(steps) if bool((x.grad[step] != 0).any())]
    last = (steps - 1) // k_trunc * k_trunc
    stored = steps - 1  # no step comes after the last one to recall its memory
    counted = [
        step
        for step in range(1, steps + 1)
        if step > last or (reach.creditable(step, k_att, k_trunc) and -(-step // k_att) * k_att <= stored)
    ]
    assert reached == counted


def test_all_steps_can_be_credited_where_k_att_divides_k_trunc() -> None:
    assert reach.creditable_share(5, 10) == reach.creditable_share(10, 10) == 1
    assert reach.creditable_share(20, 10) == 0.5
    assert reach.creditable_share(4, 10) == 0.9


class Counting(nn.Module):
    """A scorer that counts the scores that it computes for a row."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def keys(self, memory: Tensor) -> Tensor:
        return memory

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        self.given += keys.shape[1]
        return (keys * query.unsqueeze(1)).sum(2)


@pytest.mark.parametrize("capacity", [None, 3])
@pytest.mark.parametrize("k_att", [1, 4, 10])
def test_scores_and_the_span_of_memory_are_as_counted(k_att: int, capacity: int | None) -> None:
    scorer = Counting()
    layer = SAB(2, 4, score=scorer, k_att=k_att, capacity=capacity, engine="autograd")
    with torch.no_grad():
        _, state = layer(torch.randn(47, 1, 2))
    assert scorer.given == reach.scores(47, k_att, capacity)
    if capacity is not None:
        assert 47 - int(state.memory_step.min()) >= reach.remembered_span(k_att, capacity)


def test_measured_lines_are_those_of_the_measurements() -> None:
    path = ROOT / "results" / "bench" / "defaults" / "measured.json"
    lengths, ratios = charts.ratios(path, "sab-additive", "ratio")
    results = json.loads(path.read_text())["results"]
    assert lengths == [point["size"]["T"] for point in results]
    assert ratios[0] == results[0]["measured"]["sab-additive"]["ratio"]


KEPT = {
    "additive": "kept/sab-additive kept-3200/sab-additive",
    "dot": "kept/sab-dot kept-3200/sab-dot",
    "separable": "kept/sab-separable kept-3200/sab-separable",
    "additive, replay": "kept/sab-additive-replay kept-3200/sab-additive-replay",
    "additive, the layer's defaults (softmax, one memory per 10 steps)": "kept-defaults/sab-additive",
}
GIVEN_BACK = {
    "additive": "given-back/sab-additive",
    "dot": "given-back/sab-dot",
    "separable": "given-back/sab-separable",
    "additive, replay": "given-back/sab-additive-replay",
}
TIMES = {
    "additive": "lengths/sab-additive growth-T/sab-additive",
    "dot": "lengths/sab-dot growth-T/sab-dot",
    "separable": "lengths/sab-separable growth-T/sab-separable",
    "additive, replay": "growth-T/sab-additive-replay",
    "additive, the layer's defaults (softmax, one memory per 10 steps)": "defaults/sab-additive",
    "additive, plain autograd (reference)": "baselines/sab-additive-reference",
    "LSTM with full attention": "baselines/attention",
    "Transformer, one layer": "baselines/transformer",
}
MEMORY = {
    "additive, gates kept": "growth-T/sab-additive",
    "additive, replay": "growth-T/sab-additive-replay",
    "separable, replay": "growth-T/sab-separable-replay",
    "additive, plain autograd": "baselines/sab-additive-reference",
    "LSTM with full attention": "baselines/attention",
}
"""Row of a table of results/bench -> the folders and contestants that it is of; a second folder adds lengths."""


@pytest.mark.parametrize(
    ("heading", "ratio", "table"),
    [
        ("Time, ratio of CPU time, where freed memory is kept", "ratio", KEPT),
        ("Time, ratio of CPU time, where freed memory is kept", "ratio", GIVEN_BACK),
        ("Time, ratio of CPU time, where freed memory is given back", "ratio", TIMES),
        ("Memory, ratio of peak", "peak_ratio", MEMORY),
    ],
)
def test_ratios_of_the_page_of_benchmarks_are_the_measured_ones(
    heading: str, ratio: str, table: dict[str, str]
) -> None:
    folder = ROOT / "results" / "bench"
    part = (folder / "README.md").read_text().split(f"## {heading}")[1].split("\n## ")[0]
    for row, measured in table.items():
        found: dict[int, float] = {}
        for name, contestant in (each.split("/") for each in measured.split()):
            results = json.loads((folder / name / "measured.json").read_text())["results"]
            found |= {
                each["size"]["T"]: each["measured"][contestant][ratio]
                for each in results
                if each["measured"].get(contestant, {}).get(ratio) is not None
            } | found
        assert f"| {row} | " + "".join(f"{found[T]:.2f} | " for T in sorted(found))[:-1] in part, row


def looks() -> dict[str, object]:
    """How matplotlib draws, but for what it draws with."""
    return {name: value for name, value in mpl.rcParams.items() if not name.startswith("backend")}


def test_pictures_take_the_colours_of_the_page_and_share_no_ids(tmp_path: Path) -> None:
    idea.write(tmp_path)
    calls.write(tmp_path)
    deferred.write(tmp_path)
    before = looks()
    charts.write(tmp_path, ROOT / "results")
    assert looks() == before, "other figures look as they did"
    ids: list[str] = []
    for path in tmp_path.glob("*.svg"):
        svg = path.read_text()
        assert re.findall(r"#[0-9a-f]{6}\b", svg) == [], path.name
        assert set(re.findall(r"(?<!&)#([\w-]+)", svg)) <= set(re.findall(r'id="([^"]+)"', svg)), path.name
        ids += set(re.findall(r'id="([^"]+)"', svg))
    assert len(ids) == len(set(ids))


def test_the_readmes_picture_is_the_one_that_is_drawn() -> None:
    svg = idea.README_PICTURE.read_text()
    assert svg == idea.overview().standalone()
    assert "var(" not in svg, "a page of the repository has no colours of its own"
    assert "currentColor" not in svg


@pytest.mark.parametrize("picture", [calls.call_forward(), calls.call_backward(), calls.past_credit()])
def test_files_that_a_picture_names_are_there(picture: Picture) -> None:
    titles: list[str] = re.findall(r'font-weight="bold"[^>]*>([^<]+)<', picture.svg())
    named = [name for title in titles for name in title.split(", ") if "/" in name]
    assert named
    assert [name for name in named if not (ROOT / "src" / "reminding" / name).exists()] == []
