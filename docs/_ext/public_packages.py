"""The packages and modules whose names are public, for the reference and for the tests of it."""

PACKAGES = (
    "supa",
    "supa.plotting",
    "supa.observables",
    "supa.distances",
    "supa.comparison",
    "supa_datasets",
    "supa_datasets.graph_benchmarks",
    "supa_learning",
    "supa_gff",
    "supa_gff.goodness",
    "supa_gff.heads",
    "supa_gff.label_injection",
    "supa_gff.losses",
    "supa_gff.negatives",
    "supa_mamba",
)
