"""All fields of a config in the order in which they are listed, and which algorithm reads which."""

import functools
from collections.abc import Sequence

from fednas_jax.algorithms import registry
from fednas_jax.algorithms.declared import Declared
from fednas_jax.common_fields import COMMON
from fednas_jax.errors import UserError
from fednas_jax.fields import Field, one_of


class Schema:
    """The fields of some algorithms together."""

    def __init__(self, algorithms: Sequence[Declared], names: Sequence[str]) -> None:
        """Puts the common fields and each algorithm's own together.

        Args:
          algorithms: two may declare the same field, as a variant of another does.
          names: what `config.algorithm` may be.

        Raises:
          UserError: two fields of one name differ.
        """
        fields = [f._replace(check=one_of(*names)) if f.name == "algorithm" else f for f in COMMON]
        for declared in algorithms:
            for field in declared.fields:
                _insert(field._replace(optional=True), fields, declared)
        self.fields = tuple(fields)
        self.by_name = {field.name: field for field in fields}
        self.sections = {name.split(".")[0] for name in self.by_name if "." in name}


def _insert(field: Field, fields: list[Field], declared: Declared) -> None:
    present = {other.name: other for other in fields}
    if field.name in present:
        if present[field.name] != field:
            raise UserError(
                f"config.algorithm: {declared.name!r} declares a field {field.name!r}, which "
                "another algorithm or every config has already; another name is needed"
            )
        return
    section = field.name.rpartition(".")[0]
    own = f"{section}." if section else ""
    begun = own and any(name.startswith(own) for name in present)
    behind = own if begun and not field.after else field.after
    places = [i for i, other in enumerate(fields) if behind and other.name.startswith(behind)]
    fields.insert(places[-1] + 1 if places else len(fields), field)


OURS = Schema(registry.ALGORITHMS, registry.NAMES)
"""Of the algorithms that come with the package."""


def of(algorithm: object) -> Schema:
    """The schema of configs of an algorithm: `OURS`, with what one of a user's own declares.

    Args:
      algorithm: the value of `config.algorithm`, of whatever type.

    Raises:
      UserError: it cannot be loaded, or declares a field that there is already.
    """
    if not isinstance(algorithm, str) or not registry.is_brought(algorithm):
        return OURS
    return _with(registry.find(algorithm), algorithm)


@functools.cache
def _with(declared: Declared, name: str) -> Schema:
    return Schema((*registry.ALGORITHMS, declared), (*registry.NAMES, name))


def readers(field: Field) -> tuple[str, ...]:
    """The algorithms of the package that read a field, by name."""
    return tuple(d.name for d in registry.ALGORITHMS if d.is_read(field))
