"""Kinds of GPU, with what their maker states: for plans and for utilisation.  Needs no torch.

Each row names its document.  Datasheets print tensor rates `with sparsity`: ours are dense, half of that.
Memory is counted in the datasheet's 10**9 bytes.  Drivers report a few percent more on most: that is left for
what no formula of a plan knows, such as a fragmented allocator.  All but A10G, A30, RTX-3090, RTX-A6000 and
H100-NVL were compared with copies of those documents; a GPU that no public document of its maker tells of
(A800, H800, H20) or that differs from machine to machine (GH200, GB200) has no row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One device of a kind.  Rates are peaks."""

    name: str
    """As `rlvr plan --gpu` takes it; its words are in torch's name of the device."""
    memory_bytes: float
    """Its memory."""
    bandwidth: float
    """Bytes of it read a second."""
    flops: dict[str, float]
    """Dense matrix FLOP/s by dtype; float32 without TF32, as torch computes unless told otherwise."""
    link: float
    """Bytes a second to its neighbours, one way: NVLink between all of them, or else PCIe."""
    source: str
    """Where the numbers stand."""
    is_cpu: bool = False
    """This machine's processor, which has no neighbours."""


def _gpu(name: str, numbers: tuple[float, float, float, float, float], source: str) -> Gpu:
    memory_gb, bandwidth_gb, bf16, fp32, link_gb = numbers
    return Gpu(
        name=name,
        memory_bytes=memory_gb * 1e9,
        bandwidth=bandwidth_gb * 1e9,
        flops={"bfloat16": bf16 * 1e12, "float32": fp32 * 1e12},
        link=link_gb * 1e9,
        source=f"NVIDIA {source}",
    )


GA102 = "Ampere GA102 whitepaper v2"
GPUS = {
    gpu.name: gpu
    for gpu in (
        # name      memory GB, GB/s, TFLOP/s bf16 dense, fp32, link GB/s one way
        _gpu("A10G", (24, 600, 70, 35, 32), "A10G datasheet; PCIe 4.0 x16"),
        _gpu("A30", (24, 933, 165, 10.3, 32), "A30 datasheet; PCIe 4.0 x16"),
        _gpu("L4", (24, 300, 121, 30.3, 32), "L4 datasheet; PCIe 4.0 x16"),
        _gpu("RTX-3090", (24, 936, 71, 35.6, 32), f"{GA102}, appendix A; PCIe 4.0 x16"),
        _gpu("RTX-4090", (24, 1008, 165.2, 82.6, 32), "Ada whitepaper, appendix A; PCIe 4.0 x16"),
        _gpu("RTX-5090", (32, 1792, 209.5, 104.8, 64), "RTX Blackwell whitepaper, appendix A; PCIe 5.0 x16"),
        _gpu("A100-40GB", (40, 1555, 312, 19.5, 300), "A100 datasheet (SXM); NVLink 3"),
        _gpu("RTX-A6000", (48, 768, 154.8, 38.7, 32), f"{GA102}, appendix C; PCIe 4.0 x16"),
        _gpu("A40", (48, 696, 149.7, 37.4, 32), "A40 datasheet; PCIe 4.0 x16"),
        _gpu("L40", (48, 864, 181.05, 90.5, 32), "L40 datasheet; PCIe 4.0 x16"),
        _gpu("L40S", (48, 864, 362.05, 91.6, 32), "L40S datasheet; PCIe 4.0 x16"),
        _gpu("A100-80GB", (80, 2039, 312, 19.5, 300), "A100 datasheet (SXM); NVLink 3"),
        _gpu("H100-PCIe", (80, 2000, 756.5, 51, 64), "H100 datasheet (PCIe); PCIe 5.0 x16"),
        _gpu("H100-NVL", (94, 3900, 835.5, 60, 64), "H100 datasheet (NVL); PCIe 5.0 x16"),
        _gpu("H100", (80, 3350, 989.4, 67, 450), "H100 datasheet (SXM); NVLink 4"),
        _gpu("H200", (141, 4800, 989.4, 67, 450), "H200 datasheet (SXM); NVLink 4"),
        _gpu("B200", (180, 7700, 2250, 75, 900), "HGX B200 datasheet; NVLink 5"),
    )
}
"""By name; of two names that fit a device of torch's, the more telling one comes first."""
VARIANTS = "D|Laptop|Max|NVL|Ti"
"""Words behind a name that make it another GPU."""


def called(name: str) -> Gpu | None:
    """The kind that torch calls `name`, such as `NVIDIA H100 80GB HBM3`; None where it has no row.

    Neither a slice of a GPU (MIG) nor a variant with other rates is its kind.
    """
    for gpu in GPUS.values():
        words = re.sub(r"-\d+GB$", "", gpu.name).replace("-", " ")
        memory = re.search(r"\b\d+GB\b", gpu.name)
        is_named = re.search(rf"\b{words}\b(?! ({VARIANTS})\b)", name) and " MIG " not in name
        if is_named and (memory is None or memory[0] in name):
            return gpu
    return None
