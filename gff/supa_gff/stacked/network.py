"""Stacked networks: several networks of one method, with their weights in one network."""

import copy
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from supa_gff.batch import Level
from supa_gff.heads import GoodnessScorer, Head
from supa_gff.label_injection import VirtualNodes
from supa_gff.method import Method
from supa_gff.negatives import AllNegatives
from supa_gff.networks.network import Network
from supa_gff.stacked.modules import StackedBatchNorm, StackedDropout, StackedGoodness, StackedLinear
from supa_gff.stacked.rows import MemberRows

CONVOLUTIONS = ("gin", "sage", "graph")
"""Convolutions whose weights are in linear maps, which can be stacked."""


def reason_not_to_stack(method: Method, level: Level) -> str | None:
    """Return why networks of a method cannot be trained together.

    Args:
        method: Method of the networks.
        level: What is predicted.

    Returns:
        The reason in words. None: they can be trained together.
    """
    convolution = method.conv if isinstance(method.conv, str) else "a function"
    reasons = {
        f"the level is {level}": level != "graph",
        "the targets are not classes": method.target_kind != "classification",
        "the classes have weights": method.class_weights is not None,
        "the schedule is greedy": method.schedule == "greedy",
        "negative labels are drawn": not isinstance(method.negatives, AllNegatives | None),
        "dropout of layers is checkpointed": method.checkpointing and (method.dropout > 0 or method.edge_dropout > 0),
        f"the normalisation is {method.normalisation}": method.normalisation not in ("batch", "length", "none"),
        "the heads are convolutions": isinstance(method.score, Head) and method.score.kind == "conv",
        "the hypotheses are sequential": method.hypotheses == "sequential",
        "the labels are virtual nodes": isinstance(method.label, VirtualNodes),
        f"the convolution is {convolution}": convolution not in CONVOLUTIONS,
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


class StackedNetwork:
    """Several networks of one method, whose weights are stacked in one network.

    The layers, heads and losses of the stacked network are those of a single network. Only linear maps, batch
    normalisation, dropout and the scales of a goodness are replaced by modules with an axis of members.

    Args:
        networks: Networks of the same method and shape, one for each member. They are not changed.

    Raises:
        ValueError: If networks of the method cannot be stacked.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        reason = reason_not_to_stack(networks[0].method, networks[0].level)
        if networks[0].edge_channels:
            reason = "they use features of edges"
        if reason is not None:
            raise ValueError(f"The networks cannot be trained together, since {reason}.")
        self.rows = MemberRows()
        self.members = len(networks)
        self.network = copy.deepcopy(networks[0])
        self.dropouts: list[float] = []
        """Dropout probability of each dropout of the network."""
        method = self.network.method
        moments = isinstance(method.score, Head) and (method.score.kind, method.score.pool) == ("linear", "moments")
        self.channels = method.hidden_channels * (3 if moments else 1)
        """Number of channels to which each dropout applies."""
        for name, module in list(self.network.named_modules()):
            parts = [network.get_submodule(name) for network in networks]
            stacked = self._stacked(module, parts, of_units=".scorer." in f"{name}.")
            if stacked is not None:
                parent, _, own = name.rpartition(".")
                setattr(self.network.get_submodule(parent), own, stacked)

    def tensors(self) -> dict[str, Tensor]:
        """Return the stacked weights and statistics.

        Returns:
            (members, ...) tensors by their name in the ``state_dict`` of a single network.
        """
        stacked = [
            name
            for name, module in self.network.named_modules()
            if isinstance(module, StackedLinear | StackedBatchNorm | StackedGoodness)
        ]
        state = self.network.state_dict()
        return {name: value for name, value in state.items() if name.rpartition(".")[0] in stacked}

    @staticmethod
    def store(tensors: Mapping[str, Tensor], networks: Sequence[Network]) -> None:
        """Copy stacked weights into single networks.

        Args:
            tensors: (members, ...) tensors, named as those of `tensors`.
            networks: Network of each member.
        """
        for member, network in enumerate(networks):
            network.load_state_dict({name: value[member] for name, value in tensors.items()}, strict=False)

    def _stacked(self, module: nn.Module, parts: Sequence[nn.Module], of_units: bool) -> nn.Module | None:
        """Return the module that replaces one module of the networks, or None if it has nothing of its own."""
        # Linear maps of PyTorch Geometric are a class of their own, with the same parameters.
        if isinstance(module, nn.Linear) or type(module).__name__ == "Linear":
            return StackedLinear(parts, self.rows, of_units)  # type: ignore[arg-type]
        if isinstance(module, nn.BatchNorm1d):
            return StackedBatchNorm(parts, self.rows, of_units)  # type: ignore[arg-type]
        if isinstance(module, GoodnessScorer):
            return StackedGoodness(parts, self.rows)  # type: ignore[arg-type]
        if isinstance(module, nn.Dropout) and module.p:
            self.dropouts.append(module.p)
            return StackedDropout(module.p, len(self.dropouts) - 1, self.rows)
        return None
