"""The conformance suite: every op on a backend against the reference, values, gradients and refusals, in
measured ULP.

    python -m corelib conformance cpu

tries each op of each declaration on each dtype it accepts (``families``, ``cases``, ``specials``), compares with the reference
backend's answer (``oracle``, ``compare``) under the op's error budget, or measures a decomposition by what its
factors give (``residuals``), and accounts for every case (``check``, ``report``): passed, failed, unsupported, or a
deviation that the backend has declared. Nothing is skipped. It names no backend but the reference, and no op but
those whose results the standard leaves open somewhere (``unspecified``) and whose results are known more exactly than it
computes them (``golden``); what is tried follows from the
declarations.
"""

from __future__ import annotations

# Each of these modules registers families of cases.
from . import behaviour as behaviour
from . import compiled as compiled
from . import concurrency as concurrency
from . import cotangents as cotangents
from . import declared as declared
from . import dispatches as dispatches
from . import elements as elements
from . import golden as golden
from . import grid as grid
from . import identities as identities
from . import indexing as indexing
from . import kinks as kinks
from . import leaves as leaves
from . import memory as memory
from . import programs as programs
from . import second as second
from . import transformed as transformed
from . import wide as wide
from .cases import Case
from .check import Outcome, Suite
from .families import FAMILIES, PROFILES, Family, Plan, cases, family, find
from .oracle import Oracle
from .report import Report
from .runner import check, run

__all__ = [
    "FAMILIES",
    "PROFILES",
    "Case",
    "Family",
    "Oracle",
    "Outcome",
    "Plan",
    "Report",
    "Suite",
    "cases",
    "check",
    "family",
    "find",
    "run",
]
