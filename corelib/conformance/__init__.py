"""The conformance suite: every op on a backend against the reference, values, gradients and refusals, in
measured ULP.

    python -m corelib conformance cpu

tries each op of each declaration on each dtype it accepts (``cases``, ``specials``), compares with the reference
backend's answer (``oracle``, ``compare``) under the op's error budget, or measures a decomposition by what its
factors give (``residuals``), and accounts for every case (``check``, ``report``): passed, failed, unsupported, or a
deviation that the backend has declared. Nothing is skipped. It names no backend but the reference, and no op but
those whose results the standard leaves open somewhere (``unspecified``); what is tried follows from the
declarations.
"""

from __future__ import annotations

from .cases import Case, cases
from .check import Outcome, Suite
from .oracle import Oracle
from .report import Report, check

__all__ = ["Case", "Oracle", "Outcome", "Report", "Suite", "cases", "check"]
