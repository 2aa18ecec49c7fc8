"""All fields of a config in the order in which they are listed, and which algorithm reads which."""

from collections.abc import Iterable

from fednas_jax.algorithms import registry
from fednas_jax.algorithms.declared import Declared
from fednas_jax.common_fields import COMMON
from fednas_jax.fields import Field, one_of


def assembled(algorithms: Iterable[Declared]) -> tuple[Field, ...]:
    """The common fields, and each algorithm's own where they are to be listed.

    Args:
      algorithms: two may declare the same field, as a variant of another does.

    Raises:
      ValueError: two fields of one name differ.
    """
    names = [declared.name for declared in algorithms]
    fields = [f._replace(check=one_of(*names)) if f.name == "algorithm" else f for f in COMMON]
    for declared in algorithms:
        for field in declared.fields:
            _insert(field._replace(optional=True), fields, declared)
    return tuple(fields)


def _insert(field: Field, fields: list[Field], declared: Declared) -> None:
    present = {other.name: other for other in fields}
    if field.name in present:
        if present[field.name] != field:
            raise ValueError(
                f"{declared.name} declares {field.name}, which is another field already"
            )
        return
    section = field.name.rpartition(".")[0]
    own = f"{section}." if section else ""
    begun = own and any(name.startswith(own) for name in present)
    behind = own if begun and not field.after else field.after
    places = [i for i, other in enumerate(fields) if behind and other.name.startswith(behind)]
    fields.insert(places[-1] + 1 if places else len(fields), field)


FIELDS = assembled(registry.ALGORITHMS)
"""Of all algorithms."""


def readers(field: Field) -> tuple[str, ...]:
    """The algorithms that read a field, by name."""
    return tuple(d.name for d in registry.ALGORITHMS if d.is_read(field))
