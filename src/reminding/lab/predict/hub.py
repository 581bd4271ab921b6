"""Runs on the Hugging Face Hub. The one file that imports huggingface_hub."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.facts import FACTS_NAME, save_facts
from reminding.lab.runs.runlog import LOG_NAME

FILES = (checkpoint.CONFIG_NAME, FACTS_NAME, checkpoint.WEIGHTS_NAME)
"""The files of a run that are needed to use it."""
CARD: dict[str, Any] = {"library_name": "reminding", "tags": ["recurrent", "sparse attentive backtracking"]}
"""For the model card."""
DOWNLOAD = ("revision", "cache_dir", "force_download", "local_files_only", "token")
"""The options of a download."""


def pretrained(predictor: Any) -> Any:
    """A run with the methods of `ModelHubMixin`."""
    return _mixed_in()(predictor)


def from_pretrained(name: str | Path, load: Callable[[Path], Any], **options: Any) -> Any:
    """Load a folder or, by its name, a model of the Hub.

    Args:
        load: reads a folder.
        options: of the download, which are `DOWNLOAD`.

    Raises:
        FileNotFoundError: the name is that of a folder, and there is none.
        ValueError: there is no such option, which `ModelHubMixin` would leave to the model, and so to nobody.
    """
    if unknown := [option for option in options if option not in DOWNLOAD]:
        raise ValueError(f"from_pretrained takes {', '.join(DOWNLOAD)}, got {unknown[0]}")
    folder = Path(name)
    named_as_folder = folder.is_absolute() or len(folder.parts) > 2 or folder.parts[:1] in (("..",), ("~",))
    if named_as_folder and not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {name}; a model of the Hub is named as USER/MODEL")
    return _mixed_in().from_pretrained(name, load=load, **options).predictor


def check_no_run(folder: Path) -> None:
    """Refuse the folder of a run that was trained there, which could then be neither resumed nor evaluated.

    Its config.json and facts.json say where the training data are and what they were; those of a model do not.

    Raises:
        ValueError: it is one.
    """
    if (folder / LOG_NAME).exists():
        raise ValueError(f"folder must not be that of a run, which could then not be resumed, got {folder}")


def save_portable(config: RunConfig, model: Any, folder: Path) -> None:
    """Write the files of a run that are needed to use it. Of paths they keep the file names alone."""
    task = config.task
    places = {field.name: getattr(task, field.name) for field in fields(task)}
    named = {name: Path(place.name) for name, place in places.items() if isinstance(place, Path)}
    RunConfig(task.changed(**named), config.model, config.train).save(folder / checkpoint.CONFIG_NAME, absolute=False)
    save_facts(folder, task, files=False)
    checkpoint.save_weights(folder, model)


@lru_cache(maxsize=1)
def _mixed_in() -> Any:
    """The class; made when it is first used, since its base is an optional dependency's."""
    try:
        library: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ImportError('the Hub needs huggingface_hub: pip install "reminding[hub]"') from error

    class Pretrained(library.ModelHubMixin, **CARD):  # pyright: ignore[reportGeneralTypeIssues]
        """A run in the form that `ModelHubMixin` asks for."""

        def __init__(self, predictor: Any) -> None:
            self.predictor = predictor

        def _save_pretrained(self, save_directory: Path) -> None:
            save_portable(self.predictor.config, self.predictor.model, save_directory)

        @classmethod
        def _from_pretrained(cls, *, model_id: str, load: Callable[[Path], Any], **options: Any) -> Any:
            folder = Path(model_id)
            if not folder.is_dir():
                chosen = {key: options[key] for key in DOWNLOAD if key in options}
                (folder,) = {Path(library.hf_hub_download(model_id, name, **chosen)).parent for name in FILES}
            return cls(load(folder))

    return Pretrained
