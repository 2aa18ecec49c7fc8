"""All fields of a config in their order, and which algorithms read them."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fednas_jax.algorithms import registry
from fednas_jax.algorithms.declared import Declared
from fednas_jax.fields import extension
from fednas_jax.fields.common import COMMON
from fednas_jax.fields.field import Field, one_of
from fednas_jax.runtime.errors import UserError, suggest

THEN_TRAIN = "then_train"
"""The field of a search's config that holds the config of the training after it;
`experiment/stages.py` reads it."""


class Owner(NamedTuple):
    """An extension other than an algorithm, with the fields that it declares."""

    about: str
    """Begins error messages: the field that names the extension, and its reference."""
    fields: tuple[Field, ...]


class Schema:
    """The fields of some algorithms and of a user's other extensions."""

    def __init__(
        self,
        algorithms: Sequence[Declared],
        names: Sequence[str],
        others: Sequence[Owner] = (),
    ) -> None:
        """Joins the common fields with those of algorithms and other extensions.

        Args:
          algorithms: two may declare the same field, such as an algorithm and its variant.
          names: the possible values of `config.algorithm`.
          others: extensions with fields that every algorithm reads.

        Raises:
          UserError: two fields of the same name differ.
        """
        named = one_of(*names, also=registry.WORDS)
        fields = [f._replace(check=named) if f.name == "algorithm" else f for f in COMMON]
        owners = [
            Owner(
                f"config.algorithm: {declared.name!r}",
                tuple(field._replace(optional=True) for field in declared.fields),
            )
            for declared in algorithms
        ]
        owners += others
        for owner in owners:
            for field in owner.fields:
                _insert(field, fields, owner.about)
        self.fields = tuple(fields)
        self.by_name = {field.name: field for field in fields}
        self.sections = {name.split(".")[0] for name in self.by_name if "." in name}
        for owner in owners:
            for field in owner.fields:
                if field.needs and field.needs[0] not in self.by_name:
                    raise UserError(
                        f"{owner.about} declares a field {field.name!r} that needs "
                        f"{field.needs[0]!r}; there is no such field"
                        f"{suggest(field.needs[0], self.by_name)}"
                    )

    def check_reads(self, declared: Declared, about: str) -> None:
        """Refuses names of fields that an algorithm reads and that are none.

        Args:
          declared: of one of these algorithms.
          about: the field that names it, and its name.

        Raises:
          UserError: there is no such field, and no such section.
        """
        known = {*self.by_name, *(f"{section}." for section in self.sections)}
        for name in sorted(declared.reads - known):
            raise UserError(
                f"{about} reads {name!r}; the name of a field, or of a section such as "
                f"'network.', is needed{suggest(name, known)}"
            )


def _insert(field: Field, fields: list[Field], about: str) -> None:
    present = {other.name: other for other in fields}
    section = field.name.rpartition(".")[0]
    own = f"{section}." if section else ""
    taken = section in present or any(name.startswith(f"{field.name}.") for name in present)
    if taken or field.name == THEN_TRAIN or present.get(field.name, field) != field:
        raise UserError(
            f"{about} declares a field {field.name!r}, which another algorithm, another extension "
            "or every config has already; another name is needed"
        )
    if field.name in present:
        return
    begun = own and any(name.startswith(own) for name in present)
    behind = own if begun and not field.after else field.after
    places = [i for i, other in enumerate(fields) if behind and other.name.startswith(behind)]
    fields.insert(places[-1] + 1 if places else len(fields), field)


OURS = Schema(registry.ALGORITHMS, registry.NAMES)
"""The schema of the package's algorithms."""


def of(values: Mapping[str, Any]) -> Schema:
    """The schema of a config: `OURS`, with the fields that a user's extensions declare.

    Args:
      values: values of the config's fields, by dotted name, of any types. Only those that name an
        extension are used.

    Raises:
      UserError: an extension cannot be loaded, or declares a field that exists already.
    """
    algorithm = values.get("algorithm")
    declared = None
    if isinstance(algorithm, str) and registry.is_brought(algorithm):
        declared = registry.find(algorithm)
        extension.check_declared(declared.fields, f"config.algorithm: {algorithm}")
    others = [
        Owner(f"config.{one.field}: {one.reference}", extension.fields(one))
        for one in extension.named(values)
    ]
    others = [owner for owner in others if owner.fields]
    if declared is None and not others:
        return OURS
    return _with(declared, str(algorithm), tuple(others))


@functools.cache
def _with(declared: Declared | None, name: str, others: tuple[Owner, ...]) -> Schema:
    if declared is None:
        return Schema(registry.ALGORITHMS, registry.NAMES, others)
    found = Schema((*registry.ALGORITHMS, declared), (*registry.NAMES, name), others)
    found.check_reads(declared, f"config.algorithm: {name}")
    return found


def readers(field: Field) -> tuple[str, ...]:
    """The names of the package's algorithms that read a field."""
    return tuple(d.name for d in registry.ALGORITHMS if d.is_read(field))
