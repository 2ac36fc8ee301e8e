"""Numbers in 16 bits: every one within the error that the scale states, and what has no size exactly."""

import base64
import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dln.report.packing import KINDS, Pack
from dln.report.quantise import COARSE, decode, encode

NUMBERS = arrays.arrays(np.float64, st.integers(0, 40), elements=st.floats(width=64))


@given(NUMBERS, st.sampled_from([0.0, COARSE]))
def test_numbers_come_back_within_the_stated_error(values, finest):
    codes, scale = encode(values, finest)
    assert codes.dtype == np.uint16
    found = decode(codes, scale)
    special = ~np.isfinite(values) | (values == 0)
    np.testing.assert_array_equal(found[special], values[special])
    sized = values[~special]
    with np.errstate(over="ignore", under="ignore"):
        ratio = np.exp(np.log(np.abs(found[~special])) - np.log(np.abs(sized)))
    np.testing.assert_array_equal(np.sign(found[~special]), np.sign(sized))
    # beside the step: rounding of logarithms up to 745, and of the few bits that subnormal numbers have
    normal = np.abs(sized) > 1e-300
    assert np.abs(ratio - 1)[normal].max(initial=0) <= scale.error + 1e-12


def test_twelve_powers_of_ten_are_told_to_a_quarter_of_a_thousandth():
    values = np.geomspace(1e-8, 1e4, 9999)
    codes, scale = encode(values)
    assert scale.error < 2.5e-4
    assert np.abs(decode(codes, scale) / values - 1).max() < 2.5e-4
    assert (np.diff(codes.astype(int)) >= 0).all()


@pytest.mark.parametrize("values", [[], [3.5], [0.0, np.nan], [-2.0, -2.0], [np.inf, -np.inf]])
def test_ranges_without_width_are_exact(values):
    codes, scale = encode(np.array(values))
    assert scale.step == 0
    np.testing.assert_allclose(decode(codes, scale), values, rtol=1e-15)


@given(arrays.arrays(np.uint16, st.tuples(*[st.integers(1, 4)] * 3)))
def test_a_pack_is_read_back_from_its_text(codes):
    pack = Pack()
    pack.add("before", np.array([1.5, np.nan]), "f4")
    pack.add_curves("codes", codes)
    pack.add("after", np.array([-7, 2**30]), "i4")
    content = gzip.decompress(base64.b64decode(pack.text()))

    def read(name):
        told = pack.manifest[name]
        kind, count = np.dtype(KINDS[told["kind"]]), int(np.prod(told["shape"]))
        planes = np.frombuffer(content, np.uint8, count * kind.itemsize, told["at"]).reshape(kind.itemsize, count)
        return np.ascontiguousarray(planes.T).view(kind).reshape(told["shape"])

    np.testing.assert_array_equal(read("before"), [np.float32(1.5), np.nan])
    np.testing.assert_array_equal(read("after"), [-7, 2**30])
    sums = np.cumsum(read("codes"), -1, dtype=np.uint16)
    sums[:, 1:] += sums[:, :1]
    np.testing.assert_array_equal(sums, codes)
    assert pack.text() == pack.text()
