"""Conversion of trained models of mamba_ssm and Hugging Face transformers into modules of this package."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from supa.checks import counted, format_value
from supa_mamba.modules.hybrid import HybridStack
from supa_mamba.modules.initialisation import Device
from supa_mamba.modules.mamba import Mamba
from supa_mamba.modules.mamba2 import Mamba2
from supa_mamba.modules.pretrained_config import OPTIONS, Settings, disagreements, read_settings
from supa_mamba.modules.stack import MambaStack

LEFT_OUT = re.compile(r"(embeddings?|lm_head)\.(weight|bias)")
MIXER = {"mamba": Mamba, "mamba2": Mamba2}
GROUPS = {True: 8, False: 1}
"""Default number of groups of Mamba-2 in transformers (True) and mamba_ssm (False)."""


def from_mamba_ssm(
    config: Any, state_dict: Mapping[str, Tensor], *, device: Device = None, dtype: torch.dtype | None = None
) -> MambaStack | HybridStack | Mamba | Mamba2:
    """Build a module from the config and the weights of a trained model of mamba_ssm or transformers.

    The token embedding and the language-model head are omitted: the stack maps rows of ``d_model`` features to
    normalised rows, as ``MixerModel`` and ``MambaModel`` do after the embedding. Sizes that the config does not specify
    are inferred from the weights. ``rms_norm`` and ``norm_before_gate`` in a config of transformers are ignored,
    because its models ignore them. Residuals are float32, independently of ``residual_in_fp32``.

    Args:
        config: ``MambaConfig`` of mamba_ssm, ``MambaConfig`` or ``Mamba2Config`` of transformers, or a dictionary with
            the same fields, such as a ``config.json``. For a single mixer also the arguments of its constructor.
        state_dict: Weights of the model, of its backbone, or of a single mixer, under their public names. They are
            copied.
        device: Device of the parameters; by default that of the weights.
        dtype: Dtype of the parameters; by default that of the first projection. With half precision, ``A_log``, ``D``
            and ``dt_bias`` stay in float32.

    Returns:
        A `MambaStack`, a `HybridStack` if some layers are attention, or a single `Mamba` or `Mamba2`.

    Raises:
        ValueError: If these modules cannot reproduce the model. The message lists all settings and weights that
            differ.

    Example:
        >>> import torch
        >>> from supa_mamba import Mamba, from_mamba_ssm
        >>> weights = {f"layers.0.mixer.{name}": value for name, value in Mamba(16).state_dict().items()}
        >>> weights |= {"layers.0.norm.weight": torch.ones(16), "norm_f.weight": torch.ones(16)}
        >>> stack = from_mamba_ssm({"d_model": 16, "n_layer": 1}, weights)
        >>> stack(torch.randn(1, 5, 16)).shape
        torch.Size([1, 5, 16])

        For a model on disk::

            config = json.loads(Path("config.json").read_text())
            stack = from_mamba_ssm(config, torch.load("pytorch_model.bin", weights_only=True))
    """
    if not isinstance(state_dict, Mapping) or not all(isinstance(value, Tensor) for value in state_dict.values()):
        raise ValueError(f"state_dict: {format_value(state_dict)} was given, but it must map names to tensors.")
    settings = read_settings(config)
    weights = {name.removeprefix("backbone."): value for name, value in state_dict.items()}
    weights = {name: value for name, value in weights.items() if not LEFT_OUT.fullmatch(name)}
    first = next((v for name, v in weights.items() if name.endswith("in_proj.weight") and v.ndim == 2), None)
    if first is None:
        raise ValueError(
            "state_dict: it has no layers.N.mixer.in_proj.weight and no in_proj.weight, so it is neither a model nor a "
            "mixer of mamba_ssm or transformers."
        )
    factory: dict[str, Any] = {"device": "meta", "dtype": dtype or first.dtype}
    build = _single if "in_proj.weight" in weights else _stack
    module, differs = build(weights, settings, factory)
    if module is not None:
        differs += _weights_that_differ(module, weights)
    if module is None or differs:
        raise ValueError(
            f"The model cannot be built, because it differs from the modules of supa_mamba: {'; '.join(differs)}."
        )
    module.to_empty(device=first.device if device is None else device)
    if torch.device("meta") != next(module.parameters()).device:
        module.load_state_dict(weights)
    return module


def _single(
    weights: dict[str, Tensor], settings: Settings, factory: dict[str, Any]
) -> tuple[Mamba | Mamba2 | None, list[str]]:
    kind, options, differs = _mixer(weights, settings)
    differs = [*settings.differs, *differs]
    d_model = weights["in_proj.weight"].shape[1]
    _check(differs, "d_model", settings.model.get("d_model"), d_model)
    return (None if differs else MIXER[kind](d_model, **options, **factory)), differs


def _stack(
    weights: dict[str, Tensor], settings: Settings, factory: dict[str, Any]
) -> tuple[MambaStack | HybridStack | None, list[str]]:
    differs = list(settings.differs)
    layers: dict[int, dict[str, Tensor]] = {}
    for name, value in weights.items():
        if match := re.fullmatch(r"layers\.(\d+)\.mixer\.(.+)", name):
            layers.setdefault(int(match[1]), {})[match[2]] = value
    attention = [number for number, layer in sorted(layers.items()) if "A_log" not in layer]
    mixers = [layer for layer in layers.values() if "A_log" in layer and "in_proj.weight" in layer]
    if not mixers:
        return None, [*differs, "state_dict: it has no layer with layers.N.mixer.A_log and in_proj.weight"]
    d_model, n_layer = mixers[0]["in_proj.weight"].shape[1], max(layers) + 1
    given = settings.model
    _check(differs, "d_model", given.get("d_model"), d_model)
    _check(differs, "n_layer", given.get("n_layer"), n_layer)
    hidden, asked = _hidden_features(weights), given.get("d_intermediate")
    # mamba_ssm rounds the number of hidden features up to a multiple of 128.
    if not isinstance(asked, int) or hidden != -(-asked // 128) * 128:
        _check(differs, "d_intermediate", asked, hidden)
    if given.get("attn_layer_idx") is not None:
        _check(differs, "attn_layer_idx", sorted(given["attn_layer_idx"]), attention)
    kind, options, of_mixer = _mixer(mixers[0], settings)
    differs += of_mixer
    heads: Any = settings.attention.get("num_heads")
    if attention:
        _check_attention(differs, settings.attention, d_model)
    if differs:
        return None, [*differs, *_foreign_parts(weights)]
    options |= {"mixer": kind, "norm_epsilon": given.get("norm_epsilon", 1e-5), "d_intermediate": hidden, **factory}
    if attention:
        options["rotary_emb_dim"] = settings.attention.get("rotary_emb_dim") or 0
        return HybridStack(d_model, n_layer, attention, heads, **options), _foreign_parts(weights)
    return MambaStack(d_model, n_layer, **options), _foreign_parts(weights)


def _mixer(weights: dict[str, Tensor], settings: Settings) -> tuple[str, dict[str, Any], list[str]]:
    """Return the kind and the options of a mixer, and a list of differences."""
    kind = "mamba2" if "dt_bias" in weights else "mamba"
    given = settings.mixer
    if settings.hugging_face:
        given = {name: value for name, value in given.items() if name in OPTIONS[kind] or name == "activation"}
    differs = disagreements(kind, given)
    if settings.kind not in (None, kind):
        return kind, {}, [f"the config specifies {settings.kind!r} layers, but the weights belong to {kind!r} layers"]
    sizes = _sizes_of_mamba2(weights, given, GROUPS[settings.hugging_face]) if kind == "mamba2" else _sizes(weights)
    if sizes is None:
        return kind, {}, [*differs, f"state_dict: the weights of a mixer do not have the shapes of a {kind!r} layer"]
    width, inner = weights["in_proj.weight"].shape[1], weights["out_proj.weight"].shape[1]
    if sizes.get("d_ssm", inner) != inner:
        differs.append(f"d_ssm: the weights have {sizes['d_ssm']}, but only all {inner} channels are supported")
    for name, size in sizes.items():
        asked = given.get(name)
        if name == "expand" and isinstance(asked, int | float) and int(asked * width) == inner:
            continue
        if name == "dt_rank" and asked == "auto":
            asked = math.ceil(width / 16)
        _check(differs, name, asked, size)
    kept = {name: given[name] for name in ("norm_before_gate", "rmsnorm_eps", "dt_limit") if name in given}
    options = {name: size for name, size in sizes.items() if name not in ("nheads", "d_ssm")} | kept
    return kind, options, differs


def _sizes(weights: dict[str, Tensor]) -> dict[str, Any] | None:
    try:
        (_, _, d_conv), inner = weights["conv1d.weight"].shape, weights["out_proj.weight"].shape[1]
        d_state, rank = weights["A_log"].shape[1], weights["dt_proj.weight"].shape[1]
    except (KeyError, IndexError, ValueError):
        return None
    return _common(weights, inner) | {"d_state": d_state, "d_conv": d_conv, "dt_rank": rank}


def _sizes_of_mamba2(weights: dict[str, Tensor], given: Mapping[str, Any], groups: int) -> dict[str, Any] | None:
    try:
        (mixed, _, d_conv), heads = weights["conv1d.weight"].shape, weights["dt_bias"].shape[0]
        inner, projected = weights["out_proj.weight"].shape[1], weights["in_proj.weight"].shape[0]
        # in_proj returns an MLP of 2 m channels, z of s channels, x, B, C and dt. The convolution takes x, B and C, and
        # out_proj takes m + s channels.
        beside = projected - mixed - heads - inner
        scanned = inner - beside
        states = (mixed - scanned) // 2
        groups = given.get("ngroups") or (states // given["d_state"] if given.get("d_state") else groups)
        sizes = {"d_state": states // groups, "d_conv": d_conv, "headdim": scanned // heads, "ngroups": groups}
    except (KeyError, IndexError, ValueError, TypeError, ZeroDivisionError):
        return None
    return _common(weights, inner) | sizes | {"nheads": heads, "d_ssm": scanned}


def _common(weights: dict[str, Tensor], inner: int) -> dict[str, Any]:
    width = weights["in_proj.weight"].shape[1]
    expand = inner / width
    # The quotient may be rounded down, but its product with the width must be an integer.
    expand = expand if expand * width == inner else math.nextafter(expand, math.inf)
    return {"expand": expand, "conv_bias": "conv1d.bias" in weights, "bias": "in_proj.bias" in weights}


def _hidden_features(weights: dict[str, Tensor]) -> int:
    """Return the number of hidden features of the MLPs, or 0 if there are none."""
    shapes = [value.shape for name, value in weights.items() if re.fullmatch(r"layers\.\d+\.mlp\.fc2\.weight", name)]
    return shapes[0][-1] if shapes and shapes[0] else 0


def _check(differs: list[str], name: str, given: Any, found: Any) -> None:
    if given is not None and given != found:
        differs.append(f"{name}: {format_value(given)} was given, but the weights have {found}")


def _check_attention(differs: list[str], given: Mapping[str, Any], d_model: int) -> None:
    heads = given.get("num_heads")
    if not isinstance(heads, int) or heads < 1 or d_model % heads:
        differs.append(f"num_heads: {format_value(heads)} was given in attn_cfg, but it must divide d_model, {d_model}")
        return
    for name, only in {"num_heads_kv": heads, "head_dim": d_model // heads}.items():
        if given.get(name) not in (None, only):
            differs.append(f"{name}: {format_value(given[name])} was given in attn_cfg, but only {only} is supported")


def _foreign_parts(weights: dict[str, Tensor]) -> list[str]:
    """List the unsupported parts of a model, as inferred from its weights."""
    has_layer_norm = any(re.fullmatch(r"(layers\.\d+\.norm2?|norm_f)\.bias", name) for name in weights)
    return ["the weights have LayerNorm (norm.bias) instead of RMSNorm"] if has_layer_norm else []


def _weights_that_differ(module: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    differs = [f"{name} is missing" for name in wanted if name not in found]
    differs += [f"{name} is unexpected" for name in found if name not in wanted]
    for name in wanted.keys() & found.keys():
        if wanted[name] != found[name]:
            differs.append(f"{name} has shape {found[name]}, but it must be {wanted[name]}")
    few = sorted(differs)[:8]
    return few + [f"and {counted(len(differs) - 8, 'more weight')}"] * (len(differs) > 8)
