"""Wrong backends are planted here as among the saboteurs: their fixture and their helpers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

SABOTEURS = Path(__file__).parent.parent / "saboteurs"
sys.path.append(str(SABOTEURS))  # for `from planting import ...`

_spec = importlib.util.spec_from_file_location("saboteurs_conftest", SABOTEURS / "conftest.py")
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
plant = _module.plant
