"""What people type for fields, values and flags, and what is suggested."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fednas_jax import cli, compare, evaluate, main, sweep
from fednas_jax import config as schema
from fednas_jax.algorithms import registry
from fednas_jax.data import datasets, partition
from fednas_jax.experiment import stages
from fednas_jax.fields import config_file, words
from fednas_jax.report import page
from fednas_jax.runtime.errors import UserError
from fednas_jax.studies import comparison

FIELDS = {
    "rounds": "num_rounds n_rounds comm_round communication_rounds num_server_rounds Rounds round",
    "local_epochs": "epochs num_epochs local_epoch local-epochs E",
    "batch_size": "batch bs B batchSize optimizer.batch_size",
    "seed": "random_seed seeds Seed",
    "algorithm": "algo strategy federated_optimizer algorithm.name strategy.name algorithm.type",
    "clients_per_round": "client_num_per_round cohort_size clients_per_rounds",
    "clients_fraction": "fraction fraction_fit C frac",
    "partition.num_clients": "num_clients n_clients clients num_parties client_num_in_total "
    "partition.clients partition_num_clients num_partitions",
    "partition.concentration": "alpha beta dirichlet_alpha partition.alpha partition.beta "
    "partition_alpha",
    "partition.name": "partition partition_method partition.method partitioner partition.type niid",
    "partition.labels_per_client": "partition.classes partition.num_classes",
    "dataset.max_train_examples": "max_samples dataset.max_samples",
    "partition.min_size": "min_size partition.size",
    "dataset.name": "dataset data dataset_name dataset.path data.name",
    "dataset.data_dir": "data_dir data_path",
    "network.name": "model net network network.model model_name network.type model.name",
    "network.auxiliary": "auxiliary network.aux",
    "optimizer.learning_rate": "lr LR learning_rate learning-rate client_lr eta optimizer.lr "
    "optimiser.lr optimizer.learningrate optimiser.learning_rate",
    "optimizer.weight_decay": "wd weight_decay optimizer.wd optimizer.decay l2",
    "optimizer.momentum": "momentum optimizer.mom optimizer.momentun",
    "optimizer.clip_norm": "clip grad_clip optimizer.clip optimizer.max_norm",
    "optimizer.learning_rate_min": "min_lr eta_min optimizer.lr_min",
    "optimizer.drop_path_rate": "drop_path drop_path_prob optimizer.drop_path "
    "network.drop_path_rate",
    "arch_optimizer.learning_rate": "arch_lr alpha_lr arch_learning_rate arch_optimizer.lr",
    "arch_optimizer.weight_decay": "arch_wd arch_optimizer.wd",
    "server.learning_rate": "server_lr server.lr global_lr",
    "server.momentum": "server_momentum server.mom",
    "server.optimizer": "server_optimizer server.opt",
    "supernet.layers": "layers num_layers supernet.num_layers supernet.depth supernet.cells",
    "supernet.init_channels": "channels init_channels supernet.channels supernet.width supernet.C",
    "supernet.dtype": "dtype precision fp16 amp",
    "network.layers": "network.num_layers network.depth",
    "network.init_channels": "network.channels network.width network.C",
    "search.lambda_valid": "lambda_valid lambda_val search.lambda_val",
    "fedprox_mu": "mu fedprox.mu prox_mu",
    "client.held_out_fraction": "val_fraction val_split",
    "augment.cutout": "cutout cutout_length augment.cut",
    "augment.flip": "flip random_flip",
    "report.wandb": "wandb use_wandb",
    "test_every": "eval_every frequency_of_the_test test.every",
    "warm_start": "pretrained init_from",
    "checkpoint_every": "save_every checkpoint.every",
}
"""Field -> what people type for it."""

ELSEWHERE = {
    "JAX_PLATFORMS=cuda": "device gpu cuda platform use_gpu training.device",
    "CUDA_VISIBLE_DEVICES": "gpus gpu_id num_gpus",
    "scripts/launch_mpi.sh": "world_size num_hosts nodes",
    "no worker loads": "workers num_workers",
    "did you mean --workdir?": "output_dir logdir log_dir workdir save_dir",
    "resumes a run": "resume checkpoint",
    "config.server.optimizer is the server's": "optimizer optimizer.name client_optimizer "
    "optimizer.betas optimizer.eps",
    "no field sets the dropout": "dropout dropout_rate network.dropout supernet.dropout",
    "the data set determines it": "num_classes image_size network.num_classes",
}
"""Part of the advice -> what people type."""

NOTHING = """
    quantum foo optimizer.nesterov loss patience xyz temperature a mode name type steps max_steps
    supernet.steps supernet.nodes supernet.name faults.rate partition.dir report.dir network.B
    server.name supernet.save
"""
"""What resembles no field, so that any suggestion would be absurd."""


def pairs(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(typed, right) for right, all_typed in table.items() for typed in all_typed.split()]


def meant(typed: str, algorithm: str = "fednas") -> str:
    return words.field_meant(typed, schema.FIELDS, registry.find(algorithm).is_read)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    return str(caught.value)


@pytest.mark.parametrize(("typed", "right"), pairs(FIELDS))
def test_the_field_that_was_meant(typed: str, right: str) -> None:
    assert meant(typed) == f"did you mean config.{right}?"


@pytest.mark.parametrize(("typed", "advice"), pairs(ELSEWHERE))
def test_what_no_field_sets(typed: str, advice: str) -> None:
    assert advice in meant(typed)
    assert "\n" not in meant(typed)


@pytest.mark.parametrize("typed", NOTHING.split())
def test_no_absurd_suggestion(typed: str) -> None:
    assert meant(typed) == ""


def test_of_several_fields_those_that_the_algorithm_reads() -> None:
    assert meant("layers", "fedavg") == "did you mean config.network.layers?"
    assert meant("beta1", "fedavg") == "did you mean config.server.beta1?"
    assert meant("betas") == (
        "did you mean config.arch_optimizer.beta1 or config.arch_optimizer.beta2?"
    )
    assert meant("model.layers") == "did you mean config.supernet.layers?"
    assert meant("model.layers", "fedavg") == "did you mean config.network.layers?"
    both = "did you mean config.server.beta1 or config.server.beta2?"
    assert meant("server.beta", "fedavg") == both


def test_each_other_name_stands_for_one_field() -> None:
    """Except for sizes, which a search and a training have both."""
    owners: dict[str, list[str]] = {}
    for field in schema.FIELDS:
        for word in set(map(words.plain, field.also)):
            owners.setdefault(word, []).append(field.name)
    shared = {tuple(names) for names in owners.values() if len(names) > 1}
    assert shared == {
        ("network.init_channels", "supernet.init_channels"),
        ("network.layers", "supernet.layers"),
    }
    assert not owners.keys() & words.ELSEWHERE.keys()


VALUES = {
    ("partition.name", "'hetero'"): "dirichlet Dirichlet lda non_iid noniid non-iid niid NIID "
    "label_skew DirichletPartitioner dirichlet_partitioner",
    ("partition.name", "'homo'"): "iid IID uniform random IidPartitioner",
    ("partition.name", "'natural'"): "by_client by_user NaturalIdPartitioner",
    ("partition.name", "'shards'"): "pathological shard PathologicalPartitioner ShardPartitioner",
    ("partition.name", "'power_law'"): "power-law powerlaw",
    ("algorithm", "'fedavg' with config.fedprox_mu above 0, such as 0.01"): "fedprox FedProx",
    ("algorithm", "'fedavg' with config.server.optimizer=adam"): "fedadam FedAdam",
    ("algorithm", "'fedavg' with config.server.optimizer=momentum"): "fedavgm",
    ("algorithm", "'fedavg'"): "FedAvg fed_avg fedavgg fedag",
    ("algorithm", "'fednas'"): "fednsa darts nas milenas FedNAS",
    ("network.name", "'resnet20'"): "resnet18 ResNet-20 resnet",
    ("network.name", "'resnet56'"): "resnet50 resnet-56",
    ("network.name", "'cnn'"): "lenet CNN",
    ("network.name", "'2nn'"): "mlp 2NN",
    ("network.name", "'genotype' with config.genotype=DARTS_V2"): "darts DARTS_V2",
    ("server.optimizer", "'adam'"): "fedadam adamw",
    ("server.optimizer", "'momentum'"): "avgm fedavgm",
    ("server.optimizer", "'sgd'"): "fedavg SGD",
    ("optimizer.schedule", "'constant'"): "none fixed",
    ("network.normalization", "'group'"): "gn group_norm groupnorm",
    ("supernet.dtype", "'bfloat16'"): "bf16 fp16 float16",
    ("report.wandb", "'online'"): "true on",
    ("dataset.name", "'cifar10'"): "cifar-10 CIFAR10 cifar_10 cifar uoft-cs/cifar10 hf/cifar-10",
    ("dataset.name", "'fashion_mnist'"): "fmnist fashion-mnist FashionMNIST "
    "zalando-datasets/fashion_mnist",
    ("dataset.name", "'mnist'"): "MNIST ylecun/mnist",
    ("dataset.name", "'cifar100'"): "cifar-100 uoft-cs/cifar100",
}
"""(field, end of the suggestion) -> values that people type."""

NO_VALUE = {
    "partition.name": "diid LinearPartitioner",
    "algorithm": "fednova fedper FedBN scaffold moon",
    "supernet.dtype": "float64 fp64 int8",
    "network.name": "alexnet vgg16",
    "dataset.name": "femnist svhn kmnist flwrlabs/femnist data/mnist.npz",
}
"""Field -> values to which none of ours is near, so that any suggestion would be wrong."""


def refusal_of(field: str, typed: str) -> str:
    algorithm = "fedavg" if field.split(".")[0] in ("network", "server", "optimizer") else "fednas"
    if field == "dataset.name":
        return refusal(lambda: datasets.load(typed))
    return refusal(lambda: schema.resolve(schema.default(algorithm), {field: typed}))


@pytest.mark.parametrize(("field", "typed"), pairs(NO_VALUE), ids=str)
def test_no_value_is_better_than_a_wrong_one(field: str, typed: str) -> None:
    message = refusal_of(field, typed)
    assert message.startswith(f"config.{field}: ")
    assert "did you mean" not in message


def test_what_data_are_needed_is_said_once() -> None:
    message = refusal(lambda: datasets.load("femnist"))
    assert message == (
        "config.dataset.name: unknown data set 'femnist'; the path of an .npz file, a .csv file, "
        "or a folder of images or of a Hugging Face data set is needed, see docs/data.md"
    )
    assert "known: cifar10, " in refusal(lambda: datasets.load("quantum"))


@pytest.mark.parametrize(
    ("field", "typed", "right"),
    [(field, typed, right) for (field, right), all_ in VALUES.items() for typed in all_.split()],
)
def test_the_value_that_was_meant(field: str, typed: str, right: str) -> None:
    message = refusal_of(field, typed)
    assert message.startswith(f"config.{field}: ")
    assert f"; did you mean {right}?" in message


def test_the_same_words_where_no_config_is_read() -> None:
    labels = datasets.load("digits").train
    assert "did you mean 'hetero'?" in refusal(
        lambda: partition.make("dirichlet", labels, num_clients=2, seed=0)
    )


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("resnet18", "'resnet20'"),
        ("darts", "'DARTS_V2'"),
        ("search", "--search=CONFIG, which adds the network that a search finds"),
        ("searched", "--search=CONFIG, which adds the network that a search finds"),
        ("genotype", "the name or the file of a genotype, such as FedNAS_V1"),
    ],
)
def test_networks_to_compare(typed: str, right: str) -> None:
    message = refusal(lambda: comparison.plan("digits_train", {}, "", [typed], [0], Path("x")))
    assert message == f"--networks: {typed!r} is not a network; did you mean {right}?"


def test_in_a_python_config() -> None:
    config = config_file.load("digits_quick")
    config.lr = 0.1
    expected = "config.lr: no such field; did you mean config.optimizer.learning_rate?"
    assert refusal(lambda: schema.resolve(config)) == expected
    config = config_file.load("digits_quick")
    config.optimizer.lr = 0.1
    assert "did you mean config.optimizer.learning_rate?" in refusal(lambda: schema.check(config))
    config = config_file.load("digits_quick")
    config.dataset = "cifar10"
    assert refusal(lambda: schema.check(config)) == (
        "config.dataset: is a group of fields; did you mean config.dataset.name?"
    )


def test_of_the_training_after_a_search() -> None:
    config = config_file.load("digits_search_train")
    message = refusal(lambda: stages.resolve(config, {"then_train.lr": "0.1"}))
    assert message == (
        "config.then_train.lr: no such field; did you mean "
        "config.then_train.optimizer.learning_rate?"
    )


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            "train.rounds",
            "config.train.rounds: no such field; did you mean config.then_train.rounds?",
        ),
        ("train.lr", "did you mean config.then_train.optimizer.learning_rate?"),
        ("train.quantum", "config.train.quantum: no such field; config.then_train.FIELD is needed"),
        ("then_train", "one of its fields is needed, such as config.then_train.rounds"),
    ],
)
def test_of_the_training_by_another_name(typed: str, message: str) -> None:
    config = config_file.load("digits_search_train")
    assert refusal(lambda: stages.resolve(config, {typed: "1"})).endswith(message)


def test_the_training_where_there_is_none() -> None:
    message = refusal(lambda: stages.resolve(config_file.load("digits_quick"), {"then_train": "1"}))
    assert message.startswith("config.then_train: no such field, since the config has one stage;")


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ("model", "network.name"), ("mu", "fedprox_mu"), ("server_lr", "server.learning_rate"),
        ("scheduler", "optimizer.schedule"), ("pretrained", "warm_start"), ("arch", "genotype"),
        ("norm", "network.normalization"), ("straggler", "stragglers_share"),
    ],
)  # fmt: skip
def test_fields_that_a_search_does_not_read(
    typed: str, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = f"did you mean config.{field}, which only fedavg reads?"
    search = config_file.load("digits_quick")
    assert refusal(lambda: schema.resolve(search, {typed: "1"})).endswith(expected)
    assert main.main([CONFIG, f"--{typed}=1"]) == 2
    assert expected.replace("config.", "--config.") in capsys.readouterr().err
    training = config_file.load("digits_train")
    message = refusal(lambda: schema.resolve(training, {typed: "1"}))
    assert message.endswith(f"did you mean config.{field}?")


LR = "did you mean --config.optimizer.learning_rate?"
CONFIG, BOTH = "--config=digits_quick", "--config=digits_search_train"


@pytest.mark.parametrize("command", [main.main, sweep.main, compare.main])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([CONFIG, "--lr=0.1"], f"--lr: no such flag; {LR}"),
        ([CONFIG, "--lr=0.1,0.2"], f"--lr: no such flag; {LR}"),
        ([CONFIG, "--rounds", "5"], "--rounds: no such flag; did you mean --config.rounds?"),
        ([CONFIG, "--epochs=2"], "--epochs: no such flag; did you mean --config.local_epochs?"),
        ([CONFIG, "--optimizer.lr=1"], f"--optimizer.lr: no such flag; {LR}"),
        ([CONFIG, "--device=gpu"], "--device: no such flag; JAX chooses the device, a GPU where"),
        ([CONFIG, "--output_dir=x"], "--output_dir: no such flag; did you mean --workdir?"),
        ([CONFIG, "lr=0.1"], f"lr=0.1: not a flag; {LR}"),
        ([CONFIG, "config.rounds=5"], "not a flag; did you mean --config.rounds=5?"),
        ([CONFIG, "-config.rounds=5"], "not a flag; did you mean --config.rounds=5?"),
        ([CONFIG, "config.lr=0.1"], f"config.lr=0.1: not a flag; {LR}"),
        ([CONFIG, "config.quantum=1"], "config.quantum=1: not a flag; --name=value is needed"),
        ([BOTH, "--then_train.rounds=3"], "did you mean --config.then_train.rounds?"),
        ([BOTH, "--then_train.lr=3"], "did you mean --config.then_train.optimizer.learning_rate?"),
        ([BOTH, "--train.epochs=3"], "did you mean --config.then_train.local_epochs?"),
        (
            ["--config=digits_quick:quick", "--train.epochs=3"],
            "did you mean --config.local_epochs?",
        ),
        (["--cfg=digits_quick"], "--cfg: no such flag; did you mean '--config'?"),
        (["--conf=digits_quick"], "--conf: no such flag; did you mean '--config'?"),
        (["digits_quick"], "digits_quick: not a flag; did you mean --config=digits_quick?"),
        (["-v"], "-v: not a flag; --name=value is needed, see --help"),
    ],
)
def test_flags(
    command: Callable[[Sequence[str]], int],
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("fednas_jax: error: ")
    assert message in line


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (compare.main, ["--models=2nn"], "--models: no such flag; did you mean --networks?"),
        (compare.main, ["--nets=2nn"], "--nets: no such flag; did you mean --networks?"),
        (compare.main, ["--network=2nn"], "--network: no such flag; did you mean '--networks'?"),
        (evaluate.main, ["x", "--device=gpu"], "--device: no such flag; JAX chooses the device"),
        (evaluate.main, ["x", "--data=y"], "did you mean '--data-dir' or '--dataset'?"),
        (evaluate.main, ["x", "--output=y"], "--output: no such flag; did you mean '--out'?"),
        (page.main, ["x", "--gpus=1"], "--gpus: no such flag; CUDA_VISIBLE_DEVICES=0 before"),
        (page.main, ["x", "--out=y"], "--out: no such flag; did you mean '--output'?"),
        (page.main, ["x", "--workdir=y"], "--workdir: no such flag; known: --help, --output"),
        (cli.main, ["eval"], "eval: no such command; did you mean 'evaluate'?"),
        (cli.main, ["trian"], "trian: no such command; did you mean 'train'?"),
        (cli.main, ["quantum"], "quantum: no such command; known: compare, config, doctor, "),
        (main.main, ["--config=digits_quik"], "no such config; did you mean 'digits_quick'?"),
        (
            main.main,
            ["--config=digits"],
            "did you mean 'digits_quick' or 'digits_search_train' or 'digits_train'?",
        ),
    ],
)
def test_flags_commands_and_configs(
    command: Callable[[Sequence[str]], int],
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(arguments) == 2
    assert message in capsys.readouterr().err


def test_an_axis_of_a_sweep() -> None:
    message = refusal(lambda: sweep.combinations("digits_quick", {"lr": "0.1,0.2"}))
    assert message.endswith("did you mean config.optimizer.learning_rate?")
    message = refusal(
        lambda: sweep.combinations("digits_quick", {"partition.name": "hetero,dirichlet"})
    )
    assert message.endswith("did you mean 'hetero'?")
