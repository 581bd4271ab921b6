"""Names of models: a folder that is missing is told as one, and no name of a repository is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from reminding.lab.predict.predictor import Predictor


@pytest.mark.parametrize("name", ["/none/at/all", "../none", "runs/mine/seed0"])
def test_a_folder_that_is_missing_is_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"there is no folder {name}; a model of the Hub is named as"):
        Predictor.from_pretrained(name)
