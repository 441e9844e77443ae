"""rilltext: templates for letters and reports."""

from .errors import TemplateError
from .template import Template

__all__ = ["Template", "TemplateError"]
