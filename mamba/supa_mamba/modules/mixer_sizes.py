"""Options and sizes of causal mixers, for layers that are joined or divided."""

from typing import Any

from supa_mamba.modules.attention import CausalAttention
from supa_mamba.modules.mamba import Mamba
from supa_mamba.modules.mamba2 import Mamba2

OPTIONS: dict[type, tuple[str, ...]] = {
    CausalAttention: ("num_heads", "head_dim", "rotary_emb_dim"),
    Mamba: ("d_state", "d_conv", "expand", "dt_rank", "ngroups", "activation"),
    Mamba2: ("d_state", "d_conv", "expand", "headdim", "ngroups", "activation", "dt_limit"),
}
"""Options that are attributes of a mixer, by its class."""
WIDTHS = ("num_heads", "expand", "dt_rank", "ngroups")
"""Options that are proportional to the number of heads or channels."""


def mixer_options(mixer: Any) -> dict[str, Any]:
    """Return the options of a mixer.

    Args:
        mixer: The mixer, of a class of ``OPTIONS``.

    Returns:
        Options by name, without device and dtype.
    """
    found = {name: getattr(mixer, name) for name in OPTIONS[type(mixer)]}
    found["bias"] = mixer.in_proj.bias is not None
    if not isinstance(mixer, CausalAttention):
        found["conv_bias"] = mixer.conv1d.bias is not None
    if isinstance(mixer, Mamba2):
        found["rmsnorm"] = mixer.norm is not None
        if mixer.norm is not None:
            found |= {"rmsnorm_eps": mixer.norm.eps, "norm_before_gate": mixer.norm.norm_before_gate}
    return found


def input_sizes(mixer: Any) -> list[int]:
    """Return the sizes of the parts of the input projection of a mixer.

    Args:
        mixer: The mixer, of a class of ``OPTIONS``.

    Returns:
        Numbers of channels.
    """
    if isinstance(mixer, CausalAttention):
        return [mixer.num_heads * mixer.head_dim] * 3
    if isinstance(mixer, Mamba):
        return [mixer.d_inner] * 2
    of_groups = mixer.ngroups * mixer.d_state
    return [mixer.d_inner, mixer.d_inner, of_groups, of_groups, mixer.nheads]


def has_inner_norms(mixer: Any) -> bool:
    """Return whether a mixer normalises queries and keys, or step sizes, B and C.

    Args:
        mixer: The mixer, of a class of ``OPTIONS``.

    Returns:
        Whether it does.
    """
    return (mixer.q_norm if isinstance(mixer, CausalAttention) else mixer.norms) is not None
