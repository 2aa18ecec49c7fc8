"""Files of a run that lie elsewhere now: the recorded content decides, not the place."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fednas_jax
from fednas_jax import config as schema
from fednas_jax.data import partition as partitions
from fednas_jax.experiment import assembly, contents, moved, resumption, scored, stages, workdir
from fednas_jax.report.run_folder import write_partition
from fednas_jax.runtime import layout
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json
from tests.tiny import fedavg_config, first_checkpoint, search_config

RNG = np.random.RandomState(0)
IMAGES = RNG.randint(0, 256, (60, 8, 8, 1)).astype(np.uint8)
LABELS = RNG.permutation(np.repeat(np.arange(3), 20))
NAMES = np.array(["ant", "bee", "cow"])


def save(path: Path, part: slice = slice(None), **more: Any) -> str:
    np.savez(path, **{"images": IMAGES[part], "labels": LABELS[part], "class_names": NAMES} | more)
    return str(path)


def config_of(name: str, **fields: Any) -> Any:
    config = fedavg_config()
    config.dataset.name = name
    config.dataset.max_train_examples = config.dataset.max_test_examples = 0
    config.update_from_flattened_dict(fields)
    return schema.resolve(config)


def begin(config: Any, folder: Path) -> None:
    """A run with a checkpoint, as its first start leaves it."""
    first_checkpoint(config, folder)
    dataset = assembly.load_dataset(config)
    clients = assembly.make_partition(config, dataset).clients
    facts = {
        "config": schema.to_json(config),
        "clients_per_chunk": 1,
        "data_sha256": workdir.fingerprint(dataset, clients),
        "cut_by": "client",
        "best_round_by": ["held_out_accuracy", "held_out_loss", "round"],
        "user_code": resumption.code_of_user(config),
        **resumption.inputs(config),
        **contents.digests(config),
    }
    workdir.write_run(folder, None, facts)


def refusal(folder: Path, config: Any) -> str:
    with pytest.raises(UserError) as raised:
        resumption.look(folder, config)
    return str(raised.value)


def test_a_data_file_of_the_same_content_is_the_same(tmp_path: Path) -> None:
    first = save(tmp_path / "first.npz")
    begin(config_of(first), tmp_path / "run")
    assert resumption.look(tmp_path / "run", config_of(first)).said == []
    packed = str(tmp_path / "packed.npz")  # other bytes, which hold the same
    np.savez_compressed(packed, class_names=NAMES, labels=LABELS, images=IMAGES)
    Path(first).unlink()
    found = resumption.look(tmp_path / "run", config_of(packed))
    assert found.said == [f"config.dataset.name: {packed} has the content of {first}"]
    assert (found.begun, found.finished) == (True, False)
    # What the next start records.
    facts = {"config": schema.to_json(config_of(packed)), "clients_per_chunk": 1, "done": 1}
    workdir.write_run(tmp_path / "run", found.recorded, facts | {"said": found.said})
    run = read_json(tmp_path / "run" / layout.RUN_FILE)
    assert run["config"]["dataset"]["name"] == packed
    last = run["starts"][-1]
    assert (last["replaced"], last["after_round"]) == ({"dataset.name": first}, 1)
    assert last["remarks"] == found.said
    assert last["changed"] == {}


def test_other_content_is_refused_in_one_line(tmp_path: Path) -> None:
    first = save(tmp_path / "first.npz")
    begin(config_of(first), tmp_path / "run")
    for name, changed in (
        ("pixel", {"images": np.where(np.arange(60)[:, None, None, None] == 7, 0, IMAGES)}),
        ("label", {"labels": np.roll(LABELS, 1)}),
    ):
        other = save(tmp_path / f"{name}.npz", **changed)
        assert refusal(tmp_path / "run", config_of(other)) == (
            f"config.dataset.name: {other} does not have the recorded content of {first}, with "
            f"which the run in {tmp_path / 'run'} began; files with the same content are needed, "
            "or another workdir"
        )
    renamed = save(tmp_path / "renamed.npz", class_names=NAMES[::-1])
    assert "its classes are cow, bee, ant, those of" in refusal(
        tmp_path / "run", config_of(renamed)
    )
    assert "another config (config.dataset.name: " in refusal(
        tmp_path / "run", schema.resolve(fedavg_config())
    )


def test_a_missing_file_is_named_with_what_to_give(tmp_path: Path) -> None:
    first = save(tmp_path / "first.npz")
    begin(config_of(first), tmp_path / "run")
    Path(first).unlink()
    assert refusal(tmp_path / "run", config_of(first)) == (
        f"config.dataset.name: {first}, which the run in {tmp_path / 'run'} reads, is missing; the "
        "file is needed there, or at another place given by --config.dataset.name=PATH, where its "
        "content is compared"
    )
    assert refusal(tmp_path / "run", config_of("typo.npz")) == (
        f"config.dataset.name: typo.npz is missing; the run in {tmp_path / 'run'} began with "
        f"{first}, and a file or folder with the same content is needed"
    )


def test_clients_of_other_names_are_refused(tmp_path: Path) -> None:
    """Their numbers are the same, and so are the examples."""
    sites = np.array(["anna", "oslo", "zoe"])[np.arange(60) % 3]
    fields = {"partition.name": "natural", "clients_per_round": 0}
    first = save(tmp_path / "first.npz", client=sites)
    config = config_of(first, **fields)
    begin(config, tmp_path / "run")
    dataset = assembly.load_dataset(config)
    partition = assembly.make_partition(config, dataset)
    names = list(assembly.client_names(dataset, partition))
    write_partition(
        tmp_path / "run", partition, dataset.train.labels, dataset.class_names, None, names
    )
    same = save(tmp_path / "same.npz", client=sites)
    assert resumption.look(tmp_path / "run", config_of(same, **fields)).said
    for clients, called in (
        (np.array(["a", "b", "c"])[np.arange(60) % 3], "a, b, c"),
        (np.arange(60) % 3, "without names"),
    ):
        other = save(tmp_path / "other.npz", client=clients)
        assert refusal(tmp_path / "run", config_of(other, **fields)) == (
            f"config.dataset.name: {other} has the clients {called}; the run in {tmp_path / 'run'} "
            "began with the clients anna, oslo, zoe; the same are needed, or another workdir"
        )


def test_a_model_whose_data_and_test_file_have_moved(tmp_path: Path) -> None:
    train, test = save(tmp_path / "a.npz", slice(48)), save(tmp_path / "b.npz", slice(48, 60))
    begin(config_of(train, **{"dataset.test_path": test}), tmp_path / "run")
    model = fednas_jax.restore(tmp_path / "run")
    new = tmp_path / "new"
    new.mkdir()
    for name in (train, test):
        shutil.move(name, new)
    with pytest.raises(UserError) as raised:
        scored.choose(model, dataset=str(new / "a.npz"))
    assert str(raised.value) == (
        f"{test}: the test set of the run of {model.path}, is missing; --npz=PATH of its new place "
        "is needed"
    )
    np.testing.assert_array_equal(scored.choose(model, npz=str(new / "b.npz")).images, IMAGES[48:])


def test_a_test_file_and_a_partition_may_move_too(tmp_path: Path) -> None:
    train, test = save(tmp_path / "a.npz", slice(48)), save(tmp_path / "b.npz", slice(48, 60))
    data = assembly.load_dataset(config_of(train, **{"dataset.test_path": test}))
    path = tmp_path / "dealt.npz"
    partitions.save(path, partitions.make("homo", data.train, num_clients=3, seed=0), data.train)
    fields = {"dataset.test_path": test, "partition.name": "file", "partition.path": str(path),
              "partition.num_clients": 3, "clients_per_round": 0}  # fmt: skip
    begin(config_of(train, **fields), tmp_path / "run")
    (tmp_path / "there").mkdir()
    for name in ("b.npz", "dealt.npz"):
        shutil.move(tmp_path / name, tmp_path / "there" / name)
    for name in ("dataset.test_path", "partition.path"):
        assert f"config.{name}: " in refusal(tmp_path / "run", config_of(train, **fields))
        fields[name] = str(tmp_path / "there" / Path(fields[name]).name)
    (line,) = resumption.look(tmp_path / "run", config_of(train, **fields)).said
    assert line.count(" has the content of ") == 2
    other = partitions.make("homo", data.train, num_clients=3, seed=1)
    partitions.save(fields["partition.path"], other, data.train)
    assert "does not have the recorded content of" in refusal(
        tmp_path / "run", config_of(train, **fields)
    )


def test_a_table_may_move(tmp_path: Path) -> None:
    data = save(tmp_path / "a.npz")
    (tmp_path / "t.csv").write_text("client,c0,c1,c2\n0,8,4,4\n1,4,8,8\n")
    fields = {"partition.name": "table", "clients_per_round": 0}
    begin(config_of(data, **fields, **{"partition.table": str(tmp_path / "t.csv")}), tmp_path / "r")
    shutil.move(tmp_path / "t.csv", tmp_path / "u.csv")
    assert resumption.look(
        tmp_path / "r", config_of(data, **fields, **{"partition.table": str(tmp_path / "u.csv")})
    ).said
    (tmp_path / "v.csv").write_text("client,c0,c1,c2\n0,8,4,4\n1,4,8,7\n")
    assert "does not have the recorded content" in refusal(
        tmp_path / "r", config_of(data, **fields, **{"partition.table": str(tmp_path / "v.csv")})
    )


def test_first_weights_may_move(tmp_path: Path) -> None:
    data = save(tmp_path / "a.npz")
    first_checkpoint(config_of(data), tmp_path / "first")
    begin(config_of(data, warm_start=str(tmp_path / "first")), tmp_path / "run")
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    now = config_of(data, warm_start=str(tmp_path / "copy"))
    (line,) = resumption.look(tmp_path / "run", now).said
    assert line.startswith(f"config.warm_start: {tmp_path / 'copy'} has the content of ")
    first_checkpoint(config_of(data, local_epochs=2, batch_size=5), tmp_path / "other")
    other = config_of(data, warm_start=str(tmp_path / "run"))
    assert "does not have the recorded content" in refusal(tmp_path / "run", other)
    # A run of an earlier version has no record of them.
    record = read_json(tmp_path / "run" / layout.RUN_FILE)
    record.pop(contents.WEIGHTS_SHA256)
    workdir.write_json(tmp_path / "run" / layout.RUN_FILE, record)
    assert "config.warm_start: " in refusal(tmp_path / "run", now)


TRANSFORM = """
from fednas_jax.federated.transforms import Transform

def keep(config):
    return Transform()
"""


def test_code_may_move(tmp_path: Path) -> None:
    data = save(tmp_path / "a.npz")
    (tmp_path / "own.py").write_text(TRANSFORM)
    (tmp_path / "there").mkdir()
    was, now = (str(tmp_path / place) for place in ("own.py", "there/own.py"))
    shutil.copy(was, now)
    begin(config_of(data, transforms=f"{was}:keep"), tmp_path / "run")
    moved_code = config_of(data, transforms=f"{now}:keep")
    found = resumption.look(tmp_path / "run", moved_code)
    assert found.said == [f"config.transforms: {now}:keep has the content of {was}:keep"]
    facts = {"config": schema.to_json(moved_code), "clients_per_chunk": 1,
             "user_code": resumption.code_of_user(moved_code)}  # fmt: skip
    workdir.write_run(tmp_path / "run", found.recorded, facts)
    found = resumption.look(tmp_path / "run", moved_code)
    assert (found.said, [line for line in found.unlike if "transforms" in line]) == ([], [])
    Path(was).write_text(TRANSFORM + "# another\n")
    assert "own.py is not as it was when the run in" in refusal(
        tmp_path / "run", config_of(data, transforms=f"{was}:keep")
    )
    other_name = config_of(data, transforms=f"{now}:Transform")
    assert "another config (config.transforms" in refusal(tmp_path / "run", other_name)


def test_a_model_is_scored_on_its_data_wherever_they_are(tmp_path: Path) -> None:
    first = save(tmp_path / "first.npz")
    begin(config_of(first), tmp_path / "run")
    model = fednas_jax.restore(tmp_path / "run")
    own = scored.choose(model)
    second = str(tmp_path / "second.npz")
    shutil.move(first, second)
    with pytest.raises(UserError) as raised:
        scored.choose(model)
    assert str(raised.value) == (
        f"{first}: with data of the run of {model.path}, is missing; the file is needed there, or "
        "at another place given by --dataset=PATH, where its content is compared"
    )
    np.testing.assert_array_equal(scored.choose(model, dataset=second).images, own.images)
    # Once the run has read them there, evaluate does, too.
    found = resumption.look(tmp_path / "run", config_of(second))
    facts = {"config": schema.to_json(config_of(second)), "clients_per_chunk": 1}
    workdir.write_run(tmp_path / "run", found.recorded, facts)
    np.testing.assert_array_equal(scored.choose(model).images, own.images)
    save(tmp_path / "second.npz", slice(50))
    with pytest.raises(UserError, match=r"second\.npz: the data have changed since the run of"):
        scored.choose(model)


def test_a_search_and_its_training_read_data_at_one_new_place(tmp_path: Path) -> None:
    both = search_config()
    both.then_train = fedavg_config()
    both.then_train.network.name = "genotype"
    both.then_train.update_from_flattened_dict({"network.init_channels": 2, "network.layers": 3})
    place = {"dataset.name": save(tmp_path / "a.npz")}
    resolved = stages.resolve(both, place)
    assert resolved.train is not None
    begun = resolved.first, resolved.train
    place = {"dataset.name": save(tmp_path / "b.npz")}
    resolved = stages.resolve(both, place)
    assert resolved.train is not None
    for was, now in zip(begun, (resolved.first, resolved.train), strict=True):
        places = moved.fields(schema.to_json(was), now)
        assert places == {"dataset.name": (str(tmp_path / "a.npz"), str(tmp_path / "b.npz"))}
