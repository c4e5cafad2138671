"""What a number must be when it is rounded once, whatever the order in which it was summed."""

import torch
from torch import Tensor


def rounded_once(found: Tensor, exact: Tensor) -> bool:
    """Whether bfloat16 numbers lie within half a unit of their last place of the exact ones, but for a
    float32 sum's error.

    A number that was rounded twice, or summed in bfloat16, is further away somewhere among a few hundred.
    """
    assert (found.dtype, exact.dtype) == (torch.bfloat16, torch.float64)
    half_unit = torch.ldexp(torch.ones_like(exact), torch.frexp(exact).exponent - 9)
    return bool(((found.double() - exact).abs() <= half_unit + 1e-6 * exact.abs().max()).all())
