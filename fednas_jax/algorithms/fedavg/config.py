"""The declaration of FedAvg, with fields of FedProx's term and of stragglers."""

from fednas_jax.algorithms.declared import Declared
from fednas_jax.fields.field import FLOAT, TEXT, Field, at_least, between, one_of

FIELDS = (
    Field("stragglers_share", 0.0, FLOAT, between(0, 1, "[]"),
          "Probability that a client that is reached is a straggler, too slow for all local "
          "epochs: it makes 1 to E - 1 of them, as in the experiments of FedProx",
          after="unreachable_share", also=("straggler", "straggler_rate", "systems_heterogeneity")),
    Field("stragglers", "keep", TEXT, one_of("keep", "drop"),
          "Treatment of the partial work of stragglers; keep: it is averaged like any other; drop: "
          "it is discarded",
          after="stragglers_share"),
    Field("fedprox_mu", 0.0, FLOAT, at_least(0),
          "Coefficient mu of the proximal term of FedProx, mu / 2 times the squared distance from "
          "the server's weights; 0: no such term",
          after="faults.", also=("mu", "prox_mu", "proximal_mu", "proximal", "fedprox", "prox")),
)  # fmt: skip

READS = frozenset({"genotype", "warm_start", "network.", "optimizer.", "server."})

DECLARED = Declared(
    name="fedavg",
    title="FedAvg",
    room="fednas_jax.algorithms.fedavg.room",
    fields=FIELDS,
    reads=READS,
    also=(
        ("fedprox", "'fedavg' with config.fedprox_mu above 0, such as 0.01"),
        ("prox", "'fedavg' with config.fedprox_mu above 0, such as 0.01"),
        ("fedavgm", "'fedavg' with config.server.optimizer=momentum"),
        ("fedadam", "'fedavg' with config.server.optimizer=adam"),
        ("fedyogi", "'fedavg' with config.server.optimizer=yogi"),
        ("fedopt", "'fedavg' with config.server.optimizer=adam, momentum or yogi"),
        ("fedsgd", "'fedavg' with config.local_epochs=1 and config.batch_size=0"),
        ("averaging", "fedavg"),
    ),
)
