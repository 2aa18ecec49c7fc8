"""Whether a run may be gone on with: settings that decide over bits, versions, devices, cores."""

from pathlib import Path
from typing import Any

import pytest

from fednas_jax import config as schema
from fednas_jax.experiment import resumption, workdir
from fednas_jax.runtime import layout, settings
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json, write_json
from fednas_jax.spaces.darts import genotype as genotypes
from tests.tiny import any_checkpoint, fedavg_config, genotype_config, search_config

SWITCH = "jax_softmax_custom_jvp"


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Path, Any]:
    """A workdir with a checkpoint, as one start has left it, and its config."""
    config = schema.resolve(fedavg_config())
    any_checkpoint(fedavg_config(), tmp_path)
    facts = {"config": schema.to_json(config), "clients_per_chunk": 1, "genotype": None}
    workdir.write_run(tmp_path, None, facts)
    return tmp_path, config


def edit(folder: Path, **values: Any) -> None:
    """Changes what the last start has recorded; None takes it away."""
    run = read_json(folder / layout.RUN_FILE)
    start = run["starts"][-1] | values
    run["starts"][-1] = {name: value for name, value in start.items() if value is not None}
    write_json(folder / layout.RUN_FILE, run)


def test_a_run_as_it_was_goes_on_without_a_word(begun: Any, capsys: Any) -> None:
    found = resumption.look(*begun)
    assert (found.begun, found.finished, found.unlike) == (True, False, [])
    resumption.tell(found)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("before", "now", "says"),
    [
        (
            "",
            "0",
            "is '0', .* was computed with ''; NVIDIA_TF32_OVERRIDE has to be unset to ",
        ),
        ("0", "", "is not set, .* with '0'; NVIDIA_TF32_OVERRIDE=0 is needed to resume"),
        ("0", "1", "is '1', .* with '0'; NVIDIA_TF32_OVERRIDE=0 is needed to resume"),
    ],
)
def test_other_variables_are_refused(
    begun: Any, monkeypatch: pytest.MonkeyPatch, before: str, now: str, says: str
) -> None:
    folder, config = begun
    edit(folder, settings=settings.recorded({"NVIDIA_TF32_OVERRIDE": before}))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", now)
    with pytest.raises(UserError, match=rf"^--workdir: NVIDIA_TF32_OVERRIDE {says}"):
        resumption.look(folder, config)


def test_other_switches_are_refused_of_the_same_release_alone(begun: Any) -> None:
    folder, config = begun
    edit(folder, settings={**settings.recorded(), SWITCH: "other"})
    with pytest.raises(UserError, match=f"^--workdir: {SWITCH} is .*; {SWITCH}=other is needed"):
        resumption.look(folder, config)
    edit(folder, versions=workdir.versions() | {"jax": "0.9.0"})
    (line,) = resumption.look(folder, config).unlike
    assert "jax 0.9.0 -> " in line


def test_nothing_is_refused_before_the_first_checkpoint(tmp_path: Path) -> None:
    config = schema.resolve(fedavg_config())
    facts = {"config": schema.to_json(config), "clients_per_chunk": 1, "genotype": None}
    workdir.write_run(tmp_path, None, facts)
    edit(tmp_path, settings={**settings.recorded(), SWITCH: "other"})
    assert resumption.look(tmp_path, config).unlike == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"device": "gpu: NVIDIA H100"}, "device gpu: NVIDIA H100 -> cpu: cpu"),
        ({"cores": 1000}, "cores 1000 -> "),
        ({"versions": {"optax": "0.1"}}, "optax 0.1 -> "),
    ],
)
def test_what_may_change_the_last_bits_is_said(
    begun: Any, capsys: Any, change: dict[str, Any], says: str
) -> None:
    folder, config = begun
    edit(folder, **change)
    resumption.tell(resumption.look(folder, config))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fednas_jax: warning: since the last start: {says}")


def test_another_kind_of_device_is_more_than_the_last_bits(begun: Any, capsys: Any) -> None:
    folder, config = begun
    edit(folder, device="gpu: NVIDIA H100")
    resumption.tell(resumption.look(folder, config))
    (line,) = capsys.readouterr().err.splitlines()
    assert "device gpu: NVIDIA H100 -> cpu: " in line
    assert line.endswith("the next rounds differ from those of a run on one kind of device, since "
                         "a GPU may multiply in fewer bits (TF32)")  # fmt: skip


def test_an_older_record_is_read_and_what_is_not_compared_is_said(begun: Any) -> None:
    folder, config = begun
    edit(folder, settings=None, cores=None)
    (line,) = resumption.look(folder, config).unlike
    assert "has no record of the settings" in line


def test_cores_count_on_a_cpu_alone() -> None:
    here = {**workdir.machine(), "device": "gpu: NVIDIA H100", "cores": 3}
    run = {"starts": [{**here, "cores": 2, "settings": {}}]}
    assert resumption.unlike(run, here) == []


def test_a_start_records_what_is_compared(begun: Any) -> None:
    (start,) = read_json(begun[0] / layout.RUN_FILE)["starts"]
    assert start["settings"] == settings.recorded()
    assert start["cores"] == settings.cores()
    assert start["versions"].keys() == workdir.versions().keys() | {"python"}


def test_another_genotype_is_refused_and_the_same_in_another_file_is_not(tmp_path: Path) -> None:
    found, other = (genotypes.to_json(genotypes.load(n)) for n in ("FedNAS_V1", "DARTS_V1"))
    run: dict[str, Any] = {"config": {}, "genotype": found}
    for name in ("FedNAS_V1", "moved.json"):
        resumption.check_same_inputs(tmp_path, run, {"genotype": name}, {"genotype": found})
    with pytest.raises(
        UserError, match=r"^config\.genotype: best\.json is not the one that the run"
    ):
        resumption.check_same_inputs(tmp_path, run, {"genotype": "best.json"}, {"genotype": other})
    resumption.check_same_inputs(tmp_path, {"config": {}, "genotype": None}, {}, {"genotype": None})
    # Recorded before genotypes were: the name has to do.
    run = {"config": {"genotype": "best.json"}}
    resumption.check_same_inputs(tmp_path, run, {"genotype": "best.json"}, {"genotype": other})
    with pytest.raises(UserError, match=r"^config\.genotype: moved\.json is not"):
        resumption.check_same_inputs(tmp_path, run, {"genotype": "moved.json"}, {"genotype": other})


def test_the_inputs_of_a_config_are_what_its_fields_stand_for() -> None:
    assert resumption.inputs(schema.resolve(search_config())) == {"genotype": None}
    assert resumption.inputs(schema.resolve(fedavg_config())) == {"genotype": None}
    found = resumption.inputs(schema.resolve(genotype_config(genotype="DARTS_V1")))
    assert found == {"genotype": genotypes.to_json(genotypes.load("DARTS_V1"))}


def test_an_input_inside_of_a_section_is_compared_by_its_dotted_name(tmp_path: Path) -> None:
    run = {"config": {"toy": {"masks": "a.npz"}}, "toy.masks": "sum"}
    config = {"toy": {"masks": "b.npz"}}
    resumption.check_same_inputs(tmp_path, run, config, {"toy.masks": "sum"})
    with pytest.raises(UserError, match=r"^config\.toy\.masks: b\.npz is not the one that the run"):
        resumption.check_same_inputs(tmp_path, run, config, {"toy.masks": "other"})
    del run["toy.masks"]
    with pytest.raises(UserError, match=r"^config\.toy\.masks: b\.npz is not the one that the run"):
        resumption.check_same_inputs(tmp_path, run, config, {"toy.masks": "sum"})


def test_code_of_a_users_that_has_changed_or_cannot_be_compared() -> None:
    file, text = {"path": "a.py", "sha256": "1"}, {"path": "", "sha256": "2"}
    run = {"user_code": {"dataset.name": file, "transforms:a.py:f": text, "callbacks:c": file}}

    def check(**now: Any) -> list[str]:
        named = {key.replace("_", "."): source for key, source in now.items()}
        return resumption.check_same_code(Path("run"), run, named)

    assert check(dataset_name=file) == []
    with pytest.raises(
        UserError, match=r"^config\.dataset\.name: a\.py is not as it was when the r"
    ):
        check(dataset_name=file | {"sha256": "3"})
    with pytest.raises(UserError, match=r"^config\.transforms: its code is not as it was when the"):
        resumption.check_same_code(Path("run"), run, {"transforms:a.py:f": text | {"sha256": "3"}})
    # A callback may change; of others nothing can be said where no text is, or none was recorded.
    assert resumption.check_same_code(Path("run"), run, {"callbacks:c": text}) == []
    (line,) = check(dataset_name=text | {"sha256": ""})
    assert line.startswith("config.dataset.name: whether its code is as it was when the run began")
    assert len(check(algorithm=file)) == 1
    assert resumption.check_same_code(Path("run"), {}, {}) == []
