"""Checks of values of several fields that have to fit together, each right by itself."""

from collections.abc import Mapping
from typing import Any

from fednas_jax.fields.common import ADAPTIVE
from fednas_jax.runtime.errors import UserError

Values = Mapping[str, Any]
"""Values of the fields that a run reads, by dotted name."""


def check(values: Values) -> None:
    """Refuses values that do not fit together.

    Args:
      values: values of all fields that are read, each in its declared type and range.

    Raises:
      UserError: one line that names a field, what is wrong and what would be right.
    """
    _check_rates(values)
    _check_batch(values)
    _check_cohort(values)
    _check_stragglers(values)
    _check_faults(values)
    if values["held_out_every"] != 1 and not values["client.held_out_fraction"]:
        raise UserError(
            f"config.held_out_every: {values['held_out_every']} is not used where "
            "config.client.held_out_fraction is 0; 1, its default, is needed"
        )
    _check_partition(values)


def _check_rates(values: Values) -> None:
    rate, floor = values["optimizer.learning_rate"], values.get("optimizer.learning_rate_min")
    if floor is not None and floor > rate:
        raise UserError(
            f"config.optimizer.learning_rate_min: {floor} is above config.optimizer.learning_rate; "
            f"at most {rate} is needed"
        )
    optimizer, rate = values.get("server.optimizer"), values.get("server.learning_rate", 0.0)
    if optimizer in ADAPTIVE and rate >= 1:
        raise UserError(
            f"config.server.learning_rate: {rate} is too large for config.server.optimizer "
            f"{optimizer!r}, which changes every weight by about this much in a round; less than "
            "1, such as 0.01, is needed"
        )


def _check_batch(values: Values) -> None:
    if values["batch_size"]:
        return
    # The batches of all clients have one size, so smaller clients have some examples twice.
    if values.get("network.normalization") == "batch":
        raise UserError(
            "config.batch_size: 0 is not usable with batch normalisation, which would count some "
            "examples twice; at least 1, or config.network.normalization=group, is needed"
        )


def _check_cohort(values: Values) -> None:
    name, clients = values["partition.name"], values["partition.num_clients"]
    drawn, fraction = values["clients_per_round"], values["clients_fraction"]
    if drawn and fraction != 1:
        raise UserError(
            f"config.clients_fraction: {fraction} is not used together with "
            f"config.clients_per_round, {drawn}; the default is needed for one of them"
        )
    if name in ("homo", "hetero", "shards", "power_law") and drawn > clients:
        raise UserError(
            f"config.clients_per_round: {drawn} is more than config.partition.num_clients; "
            f"at most {clients} is needed"
        )


def _check_stragglers(values: Values) -> None:
    slow, kind = values.get("stragglers_share", 0.0), values.get("stragglers")
    if slow and kind == "keep" and values["local_epochs"] < 2:
        raise UserError(
            f"config.stragglers_share: {slow} is not usable with one local epoch, since stragglers "
            "make fewer epochs than others; config.local_epochs of at least 2 is needed"
        )
    if kind == "drop" and not slow:
        raise UserError(
            "config.stragglers: 'drop' is not used where config.stragglers_share is 0; 'keep', its "
            "default, is needed"
        )


def _check_faults(values: Values) -> None:
    for name, default, needed in (
        ("dropouts", "lose", ("dropout_share",)),
        ("late", "drop", ("deadline_steps",)),
        ("speed_sigma", 0.0, ("deadline_steps", "extra_share")),
        ("too_few", "skip", ("min_clients",)),
    ):
        given = values[f"faults.{name}"]
        if given != default and not any(values[f"faults.{other}"] for other in needed):
            unset = " and ".join(f"config.faults.{other}" for other in needed)
            raise UserError(
                f"config.faults.{name}: {given!r} is not used where {unset} "
                f"{'is' if len(needed) == 1 else 'are'} 0; {default!r}, its default, is needed"
            )
    everybody = values["clients_per_round"] == 0 and values["clients_fraction"] == 1
    if values["faults.extra_share"] and everybody:
        raise UserError(
            f"config.faults.extra_share: {values['faults.extra_share']} is not usable if all "
            "clients take part; 0 is needed, or a smaller config.clients_per_round or "
            "config.clients_fraction"
        )


def _check_partition(values: Values) -> None:
    name = values["partition.name"]
    path = values["partition.path"].strip()
    if name == "file" and not path:
        raise UserError(
            "config.partition.path: empty; the path of a saved partition is needed where "
            "config.partition.name is 'file'"
        )
    if path and name != "file":
        raise UserError(
            f"config.partition.path: {path!r} is not used where config.partition.name is "
            f"{name!r}; config.partition.name=file, or an empty path, is needed"
        )
