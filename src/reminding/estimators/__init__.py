"""Estimators with the contracts of scikit-learn (`offline`) and river (`online`), on SAB networks (`network`).

`offline` and `online` subclass those libraries' bases, and are imported when one of their names is first used.
May import: `checks`, `lab.runs`, `lab.train`, `reminding.nn`, `reminding.tasks`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reminding.estimators.offline import SABClassifier, SABForecaster, SABRegressor
    from reminding.estimators.online import SABOnlineClassifier, SABOnlineRegressor

__all__ = ["SABClassifier", "SABForecaster", "SABOnlineClassifier", "SABOnlineRegressor", "SABRegressor"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    online = "Online" in name
    module, library = ("online", "river") if online else ("offline", "scikit-learn")
    try:
        return getattr(importlib.import_module(f"reminding.estimators.{module}"), name)
    except ImportError as error:
        raise ImportError(f'{name} needs {library}: pip install "reminding[estimators]"') from error
