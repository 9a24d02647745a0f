"""Export of the sampling step of a generator, for programs without this package."""

import copy
import json
import tempfile
from os import PathLike
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.model import Previous, ShowerGenerator
from supa_mamba.generator.plain_step import plain_step
from supa_mamba.generator.sampling.choices import choose_deposits, choose_hits, remaining_of
from supa_mamba.generator.sampling.limits import initial_state
from supa_mamba.generator.sampling.sampler import check_model


class LeakProgram(nn.Module):
    """Choice of the deposited energy of showers, in operations of PyTorch.

    Args:
        model: The generator.
    """

    def __init__(self, model: ShowerGenerator) -> None:
        super().__init__()
        self.model = model

    def forward(self, condition: Tensor, uniform: Tensor) -> Tensor:
        """Choose the deposited energies.

        Args:
            condition: (M, C) float32 conditions.
            uniform: (M, 3) float64 random numbers, above 0 and below 1.

        Returns:
            (M,) int64 deposited energies in units of 2^-40 of the incident energies; 0 for a shower without hits.
        """
        return choose_deposits(self.model, condition, uniform)


class StepProgram(nn.Module):
    """Choice of the next hit of showers, in operations of PyTorch.

    Args:
        model: The generator.
    """

    def __init__(self, model: ShowerGenerator) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, rest: Tensor, condition: Tensor, previous_slice: Tensor, position: Tensor, energy_logit: Tensor,
        number: Tensor, number_in_slice: Tensor, distance: Tensor, uniform: Tensor, states: list[Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, list[Tensor]]:  # fmt: skip
        """Choose the next hit of each shower.

        Args:
            rest: (M,) int64 remaining energy in units of 2^-40 of the incident energy, above 0.
            condition: (M, C) float32 conditions.
            previous_slice: (M,) int64 slice of the previous hit, or the number of slices.
            position: (M, 2) float32 position of the previous hit, or 0.
            energy_logit: (M,) float32 energy logit of the previous hit, or 0.
            number: (M,) int64 number of earlier hits.
            number_in_slice: (M,) int64 number of earlier hits in the slice of the previous hit.
            distance: (M,) float32 distance between the last two hits, or 0.
            uniform: (M, 7) float64 random numbers, above 0 and below 1.
            states: States of the layers; zeros for a new shower.

        Returns:
            (M,) int64 energy of the hit, (M,) whether it is the last one, and the arguments ``rest``,
            ``previous_slice``, ``position``, ``energy_logit``, ``number``, ``number_in_slice``, ``distance`` and
            ``states`` of the next step. The slice and the position of the hit are among them.
        """
        model = self.model
        before = Previous(
            previous_slice, position, energy_logit, remaining_of(rest), number, number_in_slice, distance, condition
        )
        hidden, states = plain_step(model.stack, model.embed(before), states)
        energy, is_last, after = choose_hits(model, hidden, before, rest, uniform)
        return (
            energy, is_last, rest - energy, after.slice, after.position, after.energy_logit, after.number,
            after.number_in_slice, after.distance, states,
        )  # fmt: skip


def export_generator(model: ShowerGenerator, folder: str | PathLike[str]) -> None:
    """Export the sampling step of a generator, for programs without this package.

    The new folder contains two programs of ``torch.export``, whose operations are those of PyTorch. ``leak.pt2``
    chooses the deposited energies of showers, and ``step.pt2`` their next hits; `LeakProgram` and `StepProgram`
    describe the arguments. Random numbers are arguments. The number of showers of a call is not fixed.
    ``generator.json`` describes the coding and the shapes of the states.

    Args:
        model: The generator, on the CPU. The programs are in float32.
        folder: Folder to create.

    Raises:
        FileExistsError: If the folder exists.
        FileNotFoundError: If its parent folder does not exist.
        ValueError: If the model is not on the CPU.

    Example:
        >>> import supa, torch
        >>> from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator, export_generator
        >>> showers = supa.simulate(20, "critical", seed=1)
        >>> model = ShowerGenerator(GeneratorConfig(d_model=32, n_layer=1), HitCoding.fit(showers))  # untrained
        >>> export_generator(model, "exported")
        >>> leak = torch.export.load("exported/leak.pt2").module()
        >>> condition = model.coding.conditions(showers.config, torch.tensor([50.0, 20.0]))
        >>> leak(condition, torch.rand(2, 3, dtype=torch.float64)).shape
        torch.Size([2])
    """
    target = Path(folder)
    if target.exists():
        raise FileExistsError(f"{target} exists; choose another name.")
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: there is no such folder.")
    if check_model(model) != "cpu":
        raise ValueError("model: it is on a GPU, but it is exported from the CPU; pass model.cpu().")
    model = copy.deepcopy(model).float().eval()
    states = [cast(Tensor, tensor) for layer in initial_state(model, 2) for tensor in layer]
    many = torch.export.Dim("showers", min=1, max=1 << 20)
    conditions = torch.zeros(2, model.coding.conditions.num_conditions)
    whole, zeros, uniform = (
        torch.tensor([1 << SHARE_BITS] * 2),
        torch.zeros(2, dtype=torch.int64),
        torch.full((2, 7), 0.5),
    )
    # torch.export takes arguments that are the same tensor for one argument.
    arguments: tuple[Any, ...] = (
        whole, conditions, zeros + model.coding.num_slices, torch.zeros(2, 2), torch.zeros(2), zeros, zeros.clone(),
        torch.ones(2), uniform.double(), states,
    )  # fmt: skip
    shapes: tuple[Any, ...] = (*({0: many} for _ in arguments[:-1]), [{0: many} for _ in states])
    with torch.no_grad():
        step = torch.export.export(StepProgram(model), arguments, dynamic_shapes=shapes)
        leak = torch.export.export(
            LeakProgram(model), (conditions, uniform[:, :3].double()), dynamic_shapes=({0: many}, {0: many})
        )
    description = {
        "coding": model.coding.to_dict(),
        "states": [list(state.shape[1:]) for state in states],
        "dtypes": [str(state.dtype).removeprefix("torch.") for state in states],
    }
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as temporary:
        fresh = Path(temporary) / "new"
        fresh.mkdir()
        torch.export.save(leak, fresh / "leak.pt2")
        torch.export.save(step, fresh / "step.pt2")
        (fresh / "generator.json").write_text(json.dumps(description, indent=1))
        fresh.rename(target)
