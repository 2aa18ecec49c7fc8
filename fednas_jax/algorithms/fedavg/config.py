"""The declaration of FedAvg, with fields of FedProx's term and of stragglers."""

from fednas_jax.algorithms.declared import Declared
from fednas_jax.fields.field import FLOAT, TEXT, Field, at_least, between, one_of

FIELDS = (
    Field("stragglers_share", 0.0, FLOAT, between(0, 1, "[]"),
          "Probability that a client that is reached is a straggler, too slow for all local "
          "epochs: it makes 1 to E - 1 of them, as in the experiments of FedProx",
          after="unreachable_share"),
    Field("stragglers", "keep", TEXT, one_of("keep", "drop"),
          "Treatment of the partial work of stragglers; keep: it is averaged like any other; drop: "
          "it is discarded",
          after="stragglers_share"),
    Field("fedprox_mu", 0.0, FLOAT, at_least(0),
          "Coefficient mu of the proximal term of FedProx, mu / 2 times the squared distance from "
          "the server's weights; 0: no such term",
          after="faults."),
)  # fmt: skip

READS = frozenset({"genotype", "warm_start", "network.", "optimizer.", "server."})

DECLARED = Declared(
    name="fedavg",
    title="FedAvg",
    room="fednas_jax.algorithms.fedavg.room",
    fields=FIELDS,
    reads=READS,
)
