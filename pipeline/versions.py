"""Versions of the libraries that decide the last bits of a result: what markers and graphs record of them."""

from importlib import import_module

_MODULES = {"pillow": "PIL"}


def versions_of(*packages: str) -> dict[str, str]:
    """By package, in this order. A package that is not imported yet is imported: ask for those in use."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    version = getattr(import_module(_MODULES.get(package, package)), "__version__", None)
    if version is None:
        from importlib import metadata  # not where a module says it: this searches every installed package

        return metadata.version(package)
    return str(version)
