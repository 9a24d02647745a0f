"""Work that coverage need not trace."""

import functools
import operator
import sys

# Functions of other packages that run a lot of Python, and call none of ours that no other test calls.
_UNTRACED = {
    "copy": ["deepcopy"],
    "matplotlib.figure": [
        "Figure.add_subplot", "Figure.colorbar", "Figure.draw", "Figure.draw_without_rendering", "Figure.savefig",
    ],
    "scipy.stats": ["rv_continuous.sf"],
    "sklearn.ensemble": ["HistGradientBoostingClassifier.decision_function", "HistGradientBoostingClassifier.fit"],
    "threadpoolctl": ["ThreadpoolController.__init__"],
    "torch": ["load", "save"],
    "torch.export": ["load", "save"],
    "torch.fx.experimental.proxy_tensor": ["ProxyTorchDispatchMode.__torch_dispatch__"],
    "torch.nn": ["Module._apply", "Module.load_state_dict", "Module.state_dict", "Module.train"],
    "torch.optim": ["Adam.step", "AdamW.step", "SGD.step"],
    "torch_geometric.nn.conv.message_passing": ["MessagePassing.__init__"],
}  # fmt: skip


def without_trace(function):
    """Return a function that runs without the trace of coverage, which slows down every line of Python."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        trace = sys.gettrace()
        sys.settrace(None)
        try:
            return function(*args, **kwargs)
        finally:
            sys.settrace(trace)

    return run


def leave_other_packages_out():
    """Let functions of other packages run without the trace of coverage, if it traces and they are imported."""
    if sys.gettrace() is None:
        return
    for module in _UNTRACED.keys() & sys.modules.keys():
        for name in _UNTRACED.pop(module):
            *owner, attribute = name.split(".")
            place = operator.attrgetter(*owner)(sys.modules[module]) if owner else sys.modules[module]
            setattr(place, attribute, without_trace(getattr(place, attribute)))
