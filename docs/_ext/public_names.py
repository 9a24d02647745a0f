"""References to public names, whatever module defines them.

``supa.Showers`` is defined in ``supa.showers``, and Sphinx calls it by that name in annotations. This extension
resolves such references to the page of the public name. It also defines the role ``public``, the default role of
docstrings: `simulate` becomes a link where a public name is meant, and stays code elsewhere.
"""

import importlib
import pydoc
from functools import cache
from types import ModuleType

from docutils import nodes
from public_packages import PACKAGES
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.roles import XRefRole


@cache
def public_names() -> dict[str, str]:
    """Return the public name for each place of definition and, where it is unique, for each bare name."""
    found: dict[str, str] = {}
    bare: dict[str, set[str]] = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", _defined_in(module)):
            value = getattr(module, name)
            public = f"{package}.{name}"
            if hasattr(value, "__qualname__") and hasattr(value, "__module__"):
                public = found.setdefault(f"{value.__module__}.{value.__qualname__}", public)
            bare.setdefault(name, set()).add(public)
            found.setdefault(f"{package}.{name}", public)
    return found | {name: publics.pop() for name, publics in bare.items() if len(publics) == 1}


def _defined_in(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]


class PublicRole(XRefRole):
    """A link to a public Python name, or code where there is no such name."""

    def process_link(
        self, env: BuildEnvironment, refnode: nodes.Element, has_explicit_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        """Mark the reference as one that may stay unresolved."""
        refnode["refdomain"], refnode["reftype"], refnode["optional"] = "py", "obj", True
        refnode["py:module"], refnode["py:class"] = env.ref_context.get("py:module"), env.ref_context.get("py:class")
        return title, target.removesuffix("()")


def _resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> nodes.Element | None:
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    domain = env.get_domain("py")
    for known in (target, f"{node.get('py:module')}.{target}"):
        head, dot, member = known, "", ""
        while head:
            if head in public_names():
                found = domain.resolve_xref(
                    env, node["refdoc"], app.builder, "obj", public_names()[head] + dot + member, node, content
                )
                if found is not None:
                    return found
            head, dot, last = head.rpartition(".")
            member = f"{last}.{member}".rstrip(".")
    return content if node.get("optional") or _is_internal(target) else None


def _is_internal(target: str) -> bool:
    """Return whether a name of this package exists without being public, such as a base class."""
    return target.startswith("supa") and pydoc.locate(target) is not None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the role and the resolver."""
    app.add_role("public", PublicRole(innernodeclass=nodes.literal))
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
