"""Transforms of client updates on their way to the server, in a chain like optax's of gradients.

A transform changes what a client sends (clips it, adds noise to it, rounds it), and what the server
gets. In a chain, clients apply the transforms in order, the server in reverse order.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fednas_jax.federated import carried
from fednas_jax.federated.algorithm import (
    Algorithm,
    ChunkFacts,
    ClientUpdate,
    Phase,
    ServerFacts,
    ServerState,
    Tree,
    weight_of_each,
    weighted_mean,
)
from fednas_jax.federated.clients import Clients, Examples
from fednas_jax.runtime.errors import UserError

PERSONAL = "personal"
"""Field of the server state with the personal states of all clients, [K, ...], if they have any."""

TRANSFORMS = "transforms"
"""Field of the server state with the states of the transforms, by name, if they have any."""


class OnClient(NamedTuple):
    """What a transform knows on a client."""

    state: ServerState
    """The server state, as the client received it."""
    own: Tree
    """The transform's own state on the server; () if it has none."""
    personal: Tree
    """The transform's state for this client; () if it has none."""
    client: Clients
    facts: ChunkFacts
    key: jax.Array
    """For the transform's random draws; another key for each client and phase."""


class OnServer(NamedTuple):
    """What a transform knows on the server."""

    state: ServerState
    own: Tree
    """The transform's own state; () if it has none."""
    facts: ServerFacts


class Sent(NamedTuple):
    """A client's update after a transform."""

    update: ClientUpdate
    personal: Tree = ()
    """The transform's next state for the client; () leaves it unchanged."""


class Received(NamedTuple):
    """The sums and weights on the server after a transform."""

    sums: Tree
    weights: Tree
    own: Tree = ()
    """The transform's next own state; () leaves it unchanged."""


def _unchanged_update(update: ClientUpdate, at: OnClient) -> Sent:
    return Sent(update, at.personal)


def _unchanged_sums(sums: Tree, weights: Tree, at: OnServer) -> Received:
    return Received(sums, weights, at.own)


class Transform(NamedTuple):
    """One link of the chain; pure functions."""

    name: str
    """Its states are stored under it: no two transforms of a chain may have the same name."""
    client: Callable[[ClientUpdate, OnClient], Sent] = _unchanged_update
    server: Callable[[Tree, Tree, OnServer], Received] = _unchanged_sums
    """(reduced sums, reduced weights, ...) -> what `server_update` gets."""
    init: Callable[[ServerState], Tree] | None = None
    """First server state -> the transform's own first state; None if it has none."""
    personal: Callable[[ServerState], Tree] | None = None
    """First server state -> the transform's first state for a client; None if it has none."""
    every_phase: bool = False
    """Whether it applies to all phases of a round. If not, it applies to the first phase only, in
    which clients make their local steps."""


def values(update: ClientUpdate) -> Tree:
    """A client's values: its sums divided by its weights, zeros where the weight is 0."""
    zeros = jax.tree.map(jnp.zeros_like, update.sums)
    return weighted_mean(update.sums, update.weights, zeros)


def with_values(update: ClientUpdate, new: Tree) -> ClientUpdate:
    """The update with new values and the same weights; `new` is a tree as `values` returns it."""
    weights = weight_of_each(update.sums, update.weights)
    sums = jax.tree.map(lambda x, w: x * w.astype(x.dtype), new, weights)
    return update._replace(sums=sums)


def before(update: ClientUpdate, state: ServerState) -> Tree:
    """The server's values, before the round, of the parts that a client sends.

    Args:
      update: its sums are a dictionary of parts of the server state, or a NamedTuple of them.
      state: the server state, as the client received it.

    Returns:
      A tree as `values` returns it.
    """
    if isinstance(update.sums, dict):
        return {name: getattr(state, name) for name in update.sums}
    return type(update.sums)(*(getattr(state, name) for name in update.sums._fields))


def chained(
    algorithm: Algorithm,
    transforms: Sequence[Transform],
    num_clients: int,
    kept: Mapping[str, Callable[[ServerState], Tree]] = MappingProxyType({}),
) -> Algorithm:
    """The algorithm with a chain of transforms around its clients and server.

    The states of transforms and the personal states of clients become fields of the server state.
    The engine needs an algorithm that was returned by this function.

    Args:
      algorithm: as its room builds it. Its state has to be a NamedTuple if fields are added.
      transforms: in the order in which clients apply them; usually none.
      num_clients: K.
      kept: further fields of the server state: name -> function from the first state to the field.

    Raises:
      UserError: two transforms have the same name.
    """
    names = [transform.name for transform in transforms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"config.transforms: two are named {twice[0]!r}; unlike names are needed")
    if not transforms and not kept and algorithm.personal is None:
        return algorithm
    chain = _Chain(algorithm, tuple(transforms), num_clients, dict(kept))
    phases = [chain.phase(number, phase) for number, phase in enumerate(algorithm.phases)]
    return algorithm._replace(
        init=chain.init,
        phases=phases,
        evaluate=chain.evaluate,
        broadcast=chain.broadcast,
        personal=chain.of_client if chain.keeps_personal else None,
        leaves_out=algorithm.leaves_out or "only_finite" in names,
    )


class _Chain(NamedTuple):
    """The functions of an algorithm with transforms around them."""

    algorithm: Algorithm
    transforms: tuple[Transform, ...]
    num_clients: int
    kept: dict[str, Callable[[ServerState], Tree]]

    @property
    def keeps_personal(self) -> bool:
        """Whether clients have a personal state."""
        return self.algorithm.personal is not None or any(t.personal for t in self.transforms)

    def init(self, key: jax.Array) -> ServerState:
        """The first state, with the fields that are added to it."""
        state = self.algorithm.init(key)
        more = {name: first(state) for name, first in self.kept.items()}
        if own := {t.name: t.init(state) for t in self.transforms if t.init}:
            more[TRANSFORMS] = own
        if self.keeps_personal:
            more[PERSONAL] = jax.tree.map(self._of_all_clients, self.of_client(state))
        return carried.extended(state, **more)

    def _of_all_clients(self, leaf: jax.Array) -> jax.Array:
        return jnp.broadcast_to(leaf, (self.num_clients, *jnp.shape(leaf)))

    def of_client(self, state: ServerState) -> Tree:
        """A client's first personal state: the algorithm's part and each transform's."""
        state = carried.original(state)
        first = self.algorithm.personal
        kept = {t.name: t.personal(state) for t in self.transforms if t.personal}
        return {"algorithm": first(state) if first else (), TRANSFORMS: kept}

    def evaluate(self, state: ServerState, inputs: Tree, targets: Tree) -> Any:
        """See `Algorithm.evaluate`."""
        return self.algorithm.evaluate(carried.original(state), inputs, targets)

    def broadcast(self, state: ServerState) -> Tree:
        """See `Algorithm.broadcast`."""
        return self.algorithm.broadcast(carried.original(state))

    def phase(self, number: int, phase: Phase) -> Phase:
        """A phase with the transforms that apply to it."""
        seeing = [t for t in self.transforms if t.every_phase or number == 0]
        return Phase(
            functools.wraps(phase.client_update)(
                functools.partial(self._client_update, phase, seeing)
            ),
            functools.wraps(phase.server_update)(
                functools.partial(self._server_update, phase, seeing)
            ),
        )

    def _client_update(
        self,
        phase: Phase,
        transforms: Sequence[Transform],
        state: ServerState,
        client: Clients,
        facts: ChunkFacts,
        examples: Examples,
        key: jax.Array,
    ) -> ClientUpdate:
        present = client.id >= 0
        kept = client.personal if self.keeps_personal else {"algorithm": (), TRANSFORMS: {}}
        inner, own = carried.original(state), getattr(state, TRANSFORMS, {})
        mine = client._replace(personal=kept["algorithm"])
        update = phase.client_update(inner, mine, facts, examples, key)
        if _is_none(update.personal):
            update = update._replace(personal=kept["algorithm"])
        of_transforms = dict(kept[TRANSFORMS])
        for place, transform in enumerate(transforms):
            name = transform.name
            draw = jax.random.fold_in(key, _TRANSFORM_STREAM + place)
            before = of_transforms.get(name, ())
            at = OnClient(inner, own.get(name, ()), before, mine, facts, draw)
            sent = transform.client(update, at)
            _check_type(sent, Sent, f"client of the transform {name!r}")
            update, after = sent
            if transform.personal and not _is_none(after):
                of_transforms[name] = after
        # A transform may have made something of the zeros of an empty place.
        sums, weights = jax.tree.map(
            lambda x: jnp.where(present, x, jnp.zeros_like(x)), (update.sums, update.weights)
        )
        update = update._replace(sums=sums, weights=weights)
        if not self.keeps_personal:
            return update._replace(personal=())
        after = {"algorithm": update.personal, TRANSFORMS: of_transforms}
        _check_alike("personal state", kept, after)
        return update._replace(personal=_unless_left_out(update, after, kept))

    def _server_update(
        self,
        phase: Phase,
        transforms: Sequence[Transform],
        state: ServerState,
        sums: Tree,
        weights: Tree,
        facts: ServerFacts,
    ) -> ServerState:
        inner, own = carried.original(state), dict(getattr(state, TRANSFORMS, {}))
        for place, transform in reversed(list(enumerate(transforms))):
            draw = jax.random.fold_in(facts.key, _TRANSFORM_STREAM + place)
            at = OnServer(inner, own.get(transform.name, ()), facts._replace(key=draw))
            received = transform.server(sums, weights, at)
            _check_type(received, Received, f"server of the transform {transform.name!r}")
            sums, weights = received.sums, received.weights
            if transform.init and not _is_none(received.own):
                own[transform.name] = received.own
        _check_alike("a transform's state", getattr(state, TRANSFORMS, {}), own)
        after = phase.server_update(inner, sums, weights, facts)
        return carried.replaced(state, after, **({TRANSFORMS: own} if own else {}))


_TRANSFORM_STREAM = 1 << 30
"""Added to the transform's place and folded into a key, for the transform's random draws."""


def _is_none(tree: Tree) -> bool:
    """Whether a state is (), which stands for "as before"."""
    return isinstance(tree, tuple) and not tree


def _check_type(value: Any, needed: type, what: str) -> None:
    if not isinstance(value, needed):
        raise UserError(
            f"config.transforms: {what} returns {type(value).__name__}; a "
            f"{needed.__module__}.{needed.__name__} is needed"
        )


def _check_alike(what: str, before: Tree, after: Tree) -> None:
    """Refuses a state whose structure, shapes or types change from round to round.

    Raises:
      UserError: they do.
    """

    def described(tree: Tree) -> Any:
        leaves, structure = jax.tree.flatten(tree)
        return structure, [(jnp.shape(x), jnp.result_type(x)) for x in leaves]

    was, now = described(before), described(after)
    if was != now:
        raise UserError(
            f"config.algorithm: {what} begins as {was[1]} in {was[0]} and becomes {now[1]} in "
            f"{now[0]}; the same structure, shapes and types are needed in each round"
        )


def _unless_left_out(update: ClientUpdate, after: Tree, before: Tree) -> Tree:
    """A client's next personal state; the one before if the client's update is not finite."""
    if "finite" not in update.metrics:
        return after
    finite = update.metrics["finite"]
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)
