"""Spec files: YAML or JSON."""

from pathlib import Path
from typing import Any

import yaml

from domain.model.errors import InvalidSpec, NotFound


def read_spec(path: Path) -> dict[str, Any]:
    """The document of a spec file.

    Raises:
        NotFound: there is no such file.
        InvalidSpec: it is not YAML, or not a mapping.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"there is no spec file {str(path)!r}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpec((f"{path} cannot be read: {error}",)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidSpec((f"{path} is not YAML: {' '.join(str(error).split())}",)) from error
    if not isinstance(document, dict):
        raise InvalidSpec((f"{path} is not a mapping of keys, such as `version: 1`",))
    return document
