"""What is packed can be read again, to the error that is promised."""

import base64
import zlib

import pytest
import torch

from crosshead.explain.page.numbers import Numbers


def read(numbers: Numbers, place: dict) -> torch.Tensor:
    content = zlib.decompress(base64.b64decode(numbers.text()))
    dtype = {8: torch.int8, 16: torch.int16}[place["bits"]]
    count = torch.Size(place["shape"]).numel()
    found = torch.frombuffer(bytearray(content), dtype=dtype, count=count, offset=place["at"])
    scale = torch.tensor(place["scale"], dtype=torch.float64)
    return found.double().reshape(place["shape"]) * scale.reshape(-1, *[1] * (len(place["shape"]) - 1))


@pytest.mark.parametrize(("dtype", "error"), [(torch.int16, 1.6e-5), (torch.int8, 4e-3)])
def test_arrays_come_back_within_their_error(dtype, error):
    numbers = Numbers()
    # Odd numbers of bytes before the last one, and items whose sizes differ by far.
    given = [torch.randn(3, 5), torch.randn(2, 3, 7) * torch.tensor([1e-6, 1e3])[:, None, None]]
    places = [numbers.add(values, dtype=dtype) for values in given]
    for values, place in zip(given, places, strict=True):
        largest = values.abs().flatten(1).amax(1).reshape(-1, *[1] * (values.ndim - 1))
        assert ((read(numbers, place) - values).abs() <= error * largest).all()


def test_arrays_of_16_bits_begin_at_even_places():
    numbers = Numbers()
    numbers.add(torch.ones(1, 3), dtype=torch.int8)
    assert numbers.add(torch.ones(1, 3))["at"] % 2 == 0


def test_zeros_are_zeros():
    numbers = Numbers()
    assert not read(numbers, numbers.add(torch.zeros(2, 4))).any()
