"""Export of the sampling step of a generator, for programs without this package."""

import copy
import json
import tempfile
from os import PathLike
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from supa_mamba.generator.model import Previous, ShowerGenerator
from supa_mamba.generator.plain_step import plain_step
from supa_mamba.generator.sampling.choices import (
    after_hits,
    before_first_hits,
    choose_deposits,
    choose_hits,
    choose_profiles,
    remaining_of,
)
from supa_mamba.generator.sampling.limits import initial_state
from supa_mamba.generator.sampling.sampler import check_model


class ProfileProgram(nn.Module):
    """Choice of the deposited energy and the longitudinal profile of showers, in operations of PyTorch.

    Args:
        model: The generator.
    """

    def __init__(self, model: ShowerGenerator) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, condition: Tensor, of_leak: Tensor, of_slices: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Choose the leak, and the number and the energy of the hits of each slice.

        Args:
            condition: (M, C) float32 conditions.
            of_leak: (M, 3) float64 random numbers, above 0 and below 1.
            of_slices: (M, L, 5) float64 random numbers, above 0 and below 1.

        Returns:
            (M,) int64 deposited energies in units of 2^-40 of the incident energies, 0 for a shower without hits; (M,
            L) int64 numbers of hits; (M, L) int64 energies; and the arguments ``profile``, ``of_slice``, ``left`` and
            ``rest`` of the first step.
        """
        deposit = choose_deposits(self.model, condition, of_leak)
        count, energy = choose_profiles(self.model, condition, deposit, of_slices)
        before, rest = before_first_hits(count, energy, condition)
        return deposit, count, energy, before.profile, before.slice, before.left, rest


class StepProgram(nn.Module):
    """Choice of the next hit of showers, in operations of PyTorch.

    Args:
        model: The generator.
    """

    def __init__(self, model: ShowerGenerator) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, condition: Tensor, count: Tensor, energy: Tensor, profile: Tensor, of_slice: Tensor, left: Tensor,
        rest: Tensor, number: Tensor, number_in_slice: Tensor, position: Tensor, energy_logit: Tensor,
        distance: Tensor, sums: Tensor, uniform: Tensor, states: list[Tensor],
    ) -> tuple[Any, ...]:  # fmt: skip
        """Choose the next hit of each shower.

        Args:
            condition: (M, C) float32 conditions.
            count: (M, L) int64 number of hits of each slice.
            energy: (M, L) int64 energy of each slice in units of 2^-40 of the incident energy.
            profile: (M, 2 L) float32 profile as inputs of the model.
            of_slice: (M,) int64 slice of the hit, numbered from the first slice of the readout layers.
            left: (M,) int64 number of this and all later hits of the slice.
            rest: (M,) int64 their energy.
            number: (M,) int64 number of earlier hits.
            number_in_slice: (M,) int64 number of earlier hits in the slice.
            position: (M, 2) float32 position of the previous hit, or 0.
            energy_logit: (M,) float32 energy logit of the previous hit, or 0.
            distance: (M,) float32 distance between the last two hits, or 0.
            sums: (M, 3) int64 sums of e, e x and e y over the earlier hits.
            uniform: (M, 5) float64 random numbers, above 0 and below 1.
            states: States of the layers; zeros for a new shower.

        Returns:
            (M,) int64 energy of the hit, (M,) whether it is the last one, and the arguments ``of_slice``, ``left``,
            ``rest``, ``number``, ``number_in_slice``, ``position``, ``energy_logit``, ``distance``, ``sums``
            and ``states`` of the next step. The position of the hit is among them.
        """
        model = self.model
        before = Previous(
            of_slice, left, remaining_of(rest), number, number_in_slice, position, energy_logit, distance, profile,
            condition, sums,
        )  # fmt: skip
        hidden, states = plain_step(model.stack, model.embed(before), states)
        of_hit, logit, position = choose_hits(model, hidden, before, rest, uniform)
        after, rest = after_hits(before, of_hit, position, logit, rest, count, energy)
        is_last = after.number == count.sum(1)
        return (
            of_hit, is_last, after.slice, after.left, rest, after.number, after.number_in_slice, after.position,
            after.energy_logit, after.distance, after.sums, states,
        )  # fmt: skip


def export_generator(model: ShowerGenerator, folder: str | PathLike[str]) -> None:
    """Export the sampling step of a generator, for programs without this package.

    The new folder contains two programs of ``torch.export``, whose operations are those of PyTorch. ``profile.pt2``
    chooses the deposited energies and the profiles of showers, and ``step.pt2`` their next hits; `ProfileProgram` and
    `StepProgram` describe the arguments. Random numbers are arguments. The number of showers of a call is not fixed.
    ``generator.json`` describes the coding and the shapes of the states.

    Args:
        model: The generator, on the CPU. The programs are in float32.
        folder: Folder to create.

    Raises:
        FileExistsError: If the folder exists.
        FileNotFoundError: If its parent folder does not exist.
        ValueError: If the model is not on the CPU, or is one of `int8_generator`.

    Example:
        >>> import supa, torch
        >>> from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator, export_generator
        >>> config = supa.ShowerConfig(num_slices=8, readout_layers=((6, 7),), incident_energy="1:100")
        >>> coding = HitCoding.fit(supa.simulate(20, config, seed=1))
        >>> model = ShowerGenerator(GeneratorConfig(d_model=32, n_layer=1), coding)  # untrained
        >>> export_generator(model, "exported")
        >>> profile = torch.export.load("exported/profile.pt2").module()
        >>> condition = coding.conditions(config, torch.tensor([50.0, 20.0]))
        >>> slices = coding.num_slices
        >>> uniform = torch.rand(2, 3, dtype=torch.float64), torch.rand(2, slices, 5, dtype=torch.float64)
        >>> deposit, count, *_ = profile(condition, *uniform)
        >>> count.shape == (2, slices)
        True
    """
    target = Path(folder)
    if target.exists():
        raise FileExistsError(f"{target} exists; choose another name.")
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: there is no such folder.")
    if check_model(model) != "cpu":
        raise ValueError("model: it is on a GPU, but it is exported from the CPU; pass model.cpu().")
    model.check_float("be exported")
    model = copy.deepcopy(model).float().eval()
    states = [cast(Tensor, tensor) for layer in initial_state(model, 2) for tensor in layer]
    many = torch.export.Dim("showers", min=1, max=1 << 20)
    conditions = torch.zeros(2, model.coding.conditions.num_conditions)
    slices = model.coding.num_slices
    uniform = torch.full((2, slices, 5), 0.5, dtype=torch.float64)

    def integers(*shape: int) -> Tensor:
        # torch.export takes arguments that are the same tensor for one argument.
        return torch.ones(shape, dtype=torch.int64)

    arguments: tuple[Any, ...] = (
        conditions, integers(2, slices), integers(2, slices), torch.zeros(2, 2 * slices), integers(2), integers(2),
        integers(2), integers(2), integers(2), torch.zeros(2, 2), torch.zeros(2), torch.ones(2), integers(2, 3),
        uniform[:, 0].clone(), states,
    )  # fmt: skip
    shapes: tuple[Any, ...] = (*({0: many} for _ in arguments[:-1]), [{0: many} for _ in states])
    with torch.no_grad():
        step = torch.export.export(StepProgram(model), arguments, dynamic_shapes=shapes)
        profile = torch.export.export(
            ProfileProgram(model), (conditions.clone(), uniform[:, 0, :3].clone(), uniform), dynamic_shapes=shapes[:3]
        )
    description = {
        "coding": model.coding.to_dict(),
        "states": [list(state.shape[1:]) for state in states],
        "dtypes": [str(state.dtype).removeprefix("torch.") for state in states],
    }
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as temporary:
        fresh = Path(temporary) / "new"
        fresh.mkdir()
        torch.export.save(profile, fresh / "profile.pt2")
        torch.export.save(step, fresh / "step.pt2")
        (fresh / "generator.json").write_text(json.dumps(description, indent=1))
        fresh.rename(target)
