"""Write tests/unit/nn_expected.safetensors: what PyTorch computes for each case of tests/unit/nn_parity.py, in float64.

    python tools/nn_parity.py

Needs PyTorch. The tests compare against the file, and where PyTorch is installed the file against PyTorch.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit")]


def main() -> None:
    """Run every case and write the file."""
    import nn_parity
    import torch

    from corelib import asarray
    from corelib.serialize import save_file

    library = nn_parity.Theirs()
    expected = {
        name: nn_parity.packed(nn_parity.run(case, library)) for name, case in nn_parity.CASES.items()
    }
    path = ROOT / "tests" / "unit" / "nn_expected.safetensors"
    arrays = {name: asarray(values, device="reference") for name, values in expected.items()}
    save_file(arrays, path, {"by": f"torch {torch.__version__}, tools/nn_parity.py"})
    sys.stdout.write(f"{path.relative_to(ROOT)}: {len(expected)} cases, {path.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
