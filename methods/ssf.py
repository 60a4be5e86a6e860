"""SSF: a learned scale and shift for every channel of what every layer puts out.

    y' = gamma * y + beta      gamma, beta: (M)

after the patch convolution, every layer norm and every linear of every block: norm1, qkv, proj, norm2, fc1 (before its
activation), fc2, and the last norm; in a Swin also the patch norm and the norm in front of every patch merging.
gamma starts from N(1, 0.02), beta from N(0, 0.02): near the identity, not at it. After training each pair merges into
its layer exactly: W' = diag(gamma) W, b' = gamma * b + beta.

Lian et al., "Scaling & Shifting Your Features", NeurIPS 2022, arXiv 2210.08823, section 3.2.
Ours differs on a Swin: the norm in front of a patch merging has its pair, which the released code means to give it and
never does, as it compares a list with a string: 7,168 parameters of a Swin-B.
"""

from dataclasses import dataclass

from bench.models.method import Method, Shape
from bench.models.view import ModelView
from methods._scale_shift import ScaleShift, norm_widths, norms


@dataclass(frozen=True)
class SSF(Method):
    family = "scale and shift"
    paper = "Lian et al. 2022, arXiv 2210.08823"
    supports = "vit swin swinv2 eva"
    merges = True
    identity_at_start = False

    def attach(self, net: ModelView) -> None:
        linears = [block.linear[name] for block in net.blocks for name in ("qkv", "proj", "fc1", "fc2")]
        for slot in (net.stem[0], *norms(net), *linears):
            slot.then(ScaleShift(slot.d_out))

    def count(self, shape: Shape) -> int:
        linears = int((5 + shape.mlp_ratio) * sum(shape.dims))  # qkv 3, proj 1, fc1 mlp_ratio, fc2 1
        return 2 * (shape.stages[0] + norm_widths(shape) + linears)
