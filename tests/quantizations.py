"""Every quantization a CPU trains beside, as the text of a spec."""

from __future__ import annotations

QUANTIZATIONS = {
    "nf4": '[quantization]\ntype = "bitsandbytes"\nbits = 4\nformat = "nf4"\ndouble = true\n',
    "fp4": '[quantization]\ntype = "bitsandbytes"\nbits = 4\nformat = "fp4"\ndouble = false\n',
    "int8": '[quantization]\ntype = "bitsandbytes"\nbits = 8\n',
    "torchao-int8": '[quantization]\ntype = "torchao"\nbits = 8\n',
    "torchao-int4": '[quantization]\ntype = "torchao"\nbits = 4\ngroup_size = 32\n',
    "quanto-int8": '[quantization]\ntype = "quanto"\nbits = 8\n',
    "hqq-4": '[quantization]\ntype = "hqq"\nbits = 4\ngroup_size = 32\n',
    "hqq-2": '[quantization]\ntype = "hqq"\nbits = 2\ngroup_size = 32\n',
}
"""Name -> `[quantization]`."""
