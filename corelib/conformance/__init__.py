"""The conformance suite: every op on a backend against the reference, values, gradients and refusals, in
measured ULP.

    python -m corelib conformance cpu

tries each op of each declaration on each dtype it accepts (``cases``), compares with the reference backend's
answer (``oracle``) under the op's error budget (``check``), and accounts for every case (``report``): passed,
failed, unsupported, or a deviation that the backend has declared. Nothing is skipped. It names no op and no
backend but the reference; what is tried follows from the declarations.
"""

from __future__ import annotations

from .cases import Case, cases
from .check import Outcome, Suite
from .oracle import Oracle
from .report import Report, check

__all__ = ["Case", "Oracle", "Outcome", "Report", "Suite", "cases", "check"]
