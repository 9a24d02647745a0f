"""Write docs/reference/presets.md, the presets with their exact expectations: python docs/make_presets.py."""

from pathlib import Path

import supa

PAGE = Path(__file__).parent / "reference" / "presets.md"

HEAD = """# Presets and their exact expectations

Written by `python docs/make_presets.py`; a test holds that it is up to date. Hits and particles are means of one
shower, with the standard deviation of the hits; energies are fractions of the incident energy. "Complete" is the share
of the showers with a hit in every readout layer, which `keep="complete"` keeps; the second line of a preset is over
those alone. Incident energy 65 GeV unless said otherwise.

| preset | showers | hits | hits by layer | energy by layer | leaked energy | particles | complete |
|---|---|---|---|---|---|---|---|
"""

TAIL = """
`critical` has no closed form: a particle's fate depends on its energy. Without its cut-off it would be `standard`.

The paper's tables of its variants v1 to v5 could not be had, so no preset claims to be one of them.
"""


def page() -> str:
    """Compute the page."""
    rows, constants = [], []
    for item in supa.PRESETS.values():
        if item.config.critical_energy == 0:
            rows += [_row(item.name, item.config, keep) for keep in ("all", "complete")]
        changes = {k: v for k, v in item.config.to_dict().items() if v != supa.ShowerConfig().to_dict()[k]}
        changed = (
            ", ".join(f"`{name} = {value}`" for name, value in changes.items()) or "the defaults of `ShowerConfig`"
        )
        constants.append(f"- **{item.name}**: {item.summary}. Constants: {changed}.")
    return HEAD + "\n".join(rows) + "\n" + TAIL + "\n## What they are\n\n" + "\n".join(constants) + "\n"


def _row(name: str, config: supa.ShowerConfig, keep: supa.expectations.Keep) -> str:
    exact = supa.expectation(config, keep=keep)
    cells = [
        name if keep == "all" else "",
        keep,
        f"{exact.total_hits:.2f} +- {exact.total_hits_variance**0.5:.2f}",
        " / ".join(f"{mean:.2f}" for mean in exact.layer_hits),
        " / ".join(f"{share:.4g}" for share in exact.layer_energy),
        f"{exact.leaked_energy:.1e}" if exact.leaked_energy > 1e-15 else "0",
        f"{exact.tree_particles:.1f}",
        f"{100 * exact.probability_complete:.2f} %" if keep == "all" else "",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
