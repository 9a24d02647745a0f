"""What the mixers with selective states have in common."""

from typing import Any, ClassVar

from torch import nn

from supa_mamba.modules.weights import leave_undecayed


class StateSpaceMixer(nn.Module):
    """A mixer some of whose parameters weight decay must leave alone."""

    undecayed: ClassVar[tuple[str, ...]]

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A deep copy of a parameter forgets how the parameter was marked.
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        leave_undecayed(self, self.undecayed)
