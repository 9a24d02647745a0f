"""Configuration of the documentation site: sphinx-build -W -b html docs OUTPUT_FOLDER."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

import supa  # noqa: E402  (the extensions in _ext must be importable first)

project = "SUPA"
author = "The SUPA maintainers"
copyright = "The SUPA maintainers"  # noqa: A001  (Sphinx reads this name)
version = release = supa.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
    "annotations",
    "copied_sources",
    "google_returns",
    "local_inventories",
    "mathml",
    "named_tuples",
    "public_names",
]
templates_path = ["_templates"]

# Every reference must resolve. With -W a broken one stops the build.
nitpicky = True
# Type variables and aliases of types, which have no page.
nitpick_ignore = [("py:class", name) for name in ("B", "I", "K", "S", "T", "Number", "EnergyLike", "PrimaryCountLike")]
nitpick_ignore.append(("py:class", "torch.nn.parameter.Parameter"))  # PyTorch documents it as torch.nn.Parameter
default_role = "public"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

autosummary_generate = True
autodoc_member_order = "bysource"
# Methods of these classes belong to other packages' references.
autodoc_default_options = {
    "inherited-members": "Module,Dataset,Sampler,ABC,BaseException,Exception,Generic,tuple,object"
}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Source", "Source")]
python_maximum_signature_line_length = 88
toc_object_entries = False

copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"SUPA {release}"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
