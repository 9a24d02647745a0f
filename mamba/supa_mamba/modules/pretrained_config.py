"""Settings of models of mamba_ssm and Hugging Face transformers in a common form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supa.checks import format_value

HUGGING_FACE = {
    "hidden_size": "d_model", "num_hidden_layers": "n_layer", "layer_norm_epsilon": "norm_epsilon",
    "state_size": "d_state", "conv_kernel": "d_conv", "expand": "expand", "time_step_rank": "dt_rank",
    "use_conv_bias": "conv_bias", "use_bias": "bias", "num_heads": "nheads", "head_dim": "headdim",
    "n_groups": "ngroups", "time_step_limit": "dt_limit", "hidden_act": "activation",
}  # fmt: skip
"""Fields of transformers' ``MambaConfig`` and ``Mamba2Config`` that change the model, and their names in mamba_ssm."""

MODEL = {"d_model", "n_layer", "norm_epsilon", "attn_layer_idx", "attn_cfg", "ssm_cfg", "rms_norm", "d_intermediate"}
MIXERS = {"Mamba1": "mamba", "Mamba2": "mamba2", "mamba": "mamba", "mamba2": "mamba2"}
OPTIONS = {
    "mamba": {"d_state", "d_conv", "expand", "dt_rank", "conv_bias", "bias"},
    "mamba2": {
        "d_state", "d_conv", "expand", "headdim", "nheads", "ngroups", "conv_bias", "bias", "norm_before_gate",
        "rmsnorm_eps", "dt_limit", "d_ssm",
    },
    "attention": {"num_heads", "num_heads_kv", "head_dim", "rotary_emb_dim"},
}  # fmt: skip
"""Options that are adopted, or checked against the weights."""

FIXED: dict[str, dict[str, tuple[Any, ...]]] = {
    "model": {"rms_norm": (True,)},
    "mamba": {"activation": ("silu", "swish")},
    "mamba2": {"activation": ("silu", "swish"), "rmsnorm": (True,), "D_has_hdim": (False,)},
    "attention": {
        "causal": (True,), "d_conv": (0,), "mlp_dim": (0,), "softmax_scale": (None,),
        "qkv_proj_bias": (False,), "out_proj_bias": (False,), "rotary_emb_base": (10000,),
        "rotary_emb_interleaved": (False,),
    },
}  # fmt: skip
"""Options with fixed behaviour in supa_mamba, and the values that match it."""

IDLE = {
    "vocab_size", "residual_in_fp32", "fused_add_norm", "pad_vocab_size_multiple", "tie_embeddings", "conv_init",
    "A_init_range", "dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "chunk_size", "use_mem_eff_path",
    "use_fast_path", "layer_idx", "process_group", "sequence_parallel", "device", "dtype", "layer",
}  # fmt: skip
"""Options of the initialisation, of performance, and of omitted parts. They are ignored."""


@dataclass(frozen=True)
class Settings:
    """Settings of a model.

    Args:
        model: The given values among d_model, n_layer, d_intermediate, norm_epsilon and attn_layer_idx.
        kind: "mamba" or "mamba2", or None if the config does not specify it.
        mixer: Options of the Mamba mixers, by the names of mamba_ssm.
        attention: Options of the attention layers.
        hugging_face: Whether the config is one of transformers.
        differs: A description of each setting of the model or of attention that is not supported.
    """

    model: dict[str, Any]
    kind: str | None
    mixer: dict[str, Any]
    attention: dict[str, Any]
    hugging_face: bool
    differs: tuple[str, ...]


def read_settings(config: Any) -> Settings:
    """Read a config.

    Args:
        config: Config of mamba_ssm or transformers, or the options of one mixer, as a mapping or an object with
            attributes.

    Returns:
        The settings.

    Raises:
        ValueError: If the config is neither a mapping nor an object with attributes.
    """
    given = _fields(config)
    hugging_face = "model_type" in given or not given.keys().isdisjoint(HUGGING_FACE.keys() - {"expand"})
    if hugging_face:
        return _of_hugging_face(given)
    model = {name: given[name] for name in MODEL & given.keys()}
    mixer = dict(model.pop("ssm_cfg", None) or {name: given[name] for name in given.keys() - MODEL})
    attention = dict(model.pop("attn_cfg", None) or {})
    if not attention.get("rotary_emb_dim"):
        attention = {name: value for name, value in attention.items() if not name.startswith("rotary_emb")}
    layer = mixer.get("layer", "Mamba1" if "ssm_cfg" in given else None)
    differs = disagreements("model", model)
    if model.get("attn_layer_idx"):
        # Attention of mamba_ssm is not causal by default.
        differs += disagreements("attention", {"causal": False, **attention})
    if layer is not None and layer not in MIXERS:
        differs.append(f"layer: {format_value(layer)} was given, but it must be 'Mamba1' or 'Mamba2'")
    kept = {name: value for name, value in model.items() if name not in FIXED["model"]}
    return Settings(kept, MIXERS.get(str(layer)), mixer, attention, False, tuple(differs))


def disagreements(part: str, options: Mapping[str, Any]) -> list[str]:
    """List the options that are not supported.

    Args:
        part: "model", "mamba", "mamba2" or "attention".
        options: Options by the names of mamba_ssm.

    Returns:
        A description of each unsupported option.
    """
    fixed, known = FIXED[part], MODEL if part == "model" else OPTIONS[part]
    found = []
    for name, value in options.items():
        if name in fixed and value not in fixed[name]:
            allowed = " or ".join(map(repr, fixed[name]))
            found.append(f"{name}: {format_value(value)} was given, but only {allowed} is supported")
        elif name not in fixed and name not in known and name not in IDLE:
            found.append(f"{name}: {format_value(value)} was given, but this setting is unknown")
    return found


def _of_hugging_face(given: dict[str, Any]) -> Settings:
    kind = given.get("model_type")
    differs = (
        []
        if kind in (None, *MIXERS)
        else [f"model_type: {format_value(kind)} was given, but it must be 'mamba' or 'mamba2'"]
    )
    named = {ours: given[name] for name, ours in HUGGING_FACE.items() if name in given}
    model = {name: named.pop(name) for name in MODEL & named.keys()}
    if "norm_epsilon" in model and kind != "mamba":
        named["rmsnorm_eps"] = model["norm_epsilon"]
    if "dt_limit" in named:
        named["dt_limit"] = tuple(map(_number, named["dt_limit"]))
    return Settings(model, MIXERS.get(str(kind)), named, {}, True, tuple(differs))


def _number(value: Any) -> Any:
    # transformers stores infinity in JSON as {"__float__": "Infinity"}.
    return float(value["__float__"]) if isinstance(value, Mapping) and "__float__" in value else value


def _fields(config: Any) -> dict[str, Any]:
    if isinstance(config, Mapping):
        return dict(config)
    if isinstance(config, type) or not hasattr(config, "__dict__"):
        raise ValueError(
            f"config: {format_value(config)} was given, but it must be a mapping or an object with attributes."
        )
    # In transformers, model_type is an attribute of the class.
    of_class: dict[str, Any] = {"model_type": config.model_type} if hasattr(config, "model_type") else {}
    return {**of_class, **vars(config)}
