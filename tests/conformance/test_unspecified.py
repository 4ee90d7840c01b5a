"""What no definition fixes of complex products and powers, and that nothing else is left open."""

from __future__ import annotations

import math

import pytest

from corelib.conformance.unspecified import open_values

LARGEST = 1.7976931348623157e308
HALF = LARGEST / 2


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (complex(2, 3), complex(4, 5), (False, False)),
        (complex(HALF, 1), complex(4, 1), (False, False)),  # overflows however it is computed
        (
            complex(HALF, HALF),
            complex(3, 1.5),
            (True, False),
        ),  # 1.5 - 0.75 fits, and 1.5 is infinite by itself
        (complex(HALF, HALF), complex(3, 3), (True, True)),  # inf - inf
        (complex(HALF, math.inf), complex(4, 1), (True, False)),
        (complex(math.inf, math.inf), complex(1, 1), (False, False)),  # NaN and infinity by IEEE 754
        (complex(math.nan, HALF), complex(4, 4), (False, False)),
        (complex(math.inf, HALF), complex(math.inf, HALF), (True, False)),
    ],
)
def test_a_product_is_open_where_one_part_of_it_overflows(x, y, expected):
    assert open_values("multiply", (x, y), LARGEST) == expected
    assert open_values("multiply", (y, x), LARGEST) == expected


def test_a_product_of_complex64_overflows_where_float32_does():
    z = complex(math.inf, -3.4e38)
    assert open_values("square", (z,), 3.4028234663852886e38) == (True, False)
    assert open_values("square", (z,), LARGEST) == (False, False)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (complex(2, 1), complex(3, 1), False),
        (complex(2, 1), complex(30, 1), True),
        (complex(2, 1), complex(LARGEST, LARGEST), True),
        (complex(5e-324, 5e-324), complex(1, LARGEST), True),
        (0j, complex(LARGEST, 0), False),
        (complex(math.inf, 1), complex(30, 1), False),
    ],
)
def test_a_power_is_open_where_it_multiplies_the_error_of_a_logarithm(x, y, expected):
    assert open_values("pow", (x, y), LARGEST) == (expected, expected)
