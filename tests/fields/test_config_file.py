"""Config files: those that come with the project, and every way to get a path wrong."""

import errno
import inspect
from pathlib import Path

import ml_collections
import pytest

from fednas_jax import config as schema
from fednas_jax.experiment import stages
from fednas_jax.fields import config_file
from fednas_jax.runtime import paths
from fednas_jax.runtime.errors import UserError

CONFIGS = Path(schema.__file__).resolve().parents[1] / "configs"
VARIANTS = {
    "cifar_hetero": ("", "quick", "paper"),
    "cifar_hetero_search_train": ("", "quick", "paper"),
    "cifar_hetero_train": ("", "quick", "paper"),
    "cifar_homo": ("", "quick", "paper"),
    "digits_quick": ("", "quick"),
    "digits_search_train": ("", "quick"),
    "digits_train": ("", "quick"),
    "mnist_fedavg": ("", "2nn", "quick"),
    "own_npz": ("", "quick"),
    "pfl_cifar10": ("", "quick"),
}


@pytest.mark.parametrize(
    ("name", "variant"), [(name, variant) for name in VARIANTS for variant in VARIANTS[name]]
)
def test_shipped_configs_are_usable(name: str, variant: str) -> None:
    config = stages.resolve(config_file.load(f"{CONFIGS / name}.py:{variant}"), {})
    main = stages.resolve(config_file.load(f"{CONFIGS / name}.py"), {})
    assert (config == main) == (variant == "")
    if variant == "quick":
        assert config.first.rounds < main.first.rounds


def test_a_shipped_config_promises_a_command_and_its_variants() -> None:
    assert {path.stem for path in CONFIGS.glob("*.py")} == set(VARIANTS)
    for name, variants in VARIANTS.items():
        text = (CONFIGS / f"{name}.py").read_text(encoding="utf-8")
        promise = inspect.cleandoc(text.split('"""')[1])
        assert f"--config=configs/{name}.py" in promise
        assert all(f"`:{variant}`" in promise for variant in variants if variant)


def test_the_papers_protocol() -> None:
    config = schema.resolve(config_file.load(f"{CONFIGS / 'cifar_hetero.py'}:paper"))
    assert config.client.held_out_fraction == 0
    assert config.search.order == "weights_first"
    assert config.server.batch_stats == "averaged"
    assert (config.partition.name, config.partition.table) == ("table", "fednas_table2")


def load_text(folder: Path, text: str, variant: str = "") -> ml_collections.ConfigDict:
    path = folder / "mine.py"
    path.write_text(text, encoding="utf-8")
    return config_file.load(f"{path}{variant}")


@pytest.mark.parametrize(
    ("text", "variant", "message"),
    [
        ("def get_config(:\n", "", r"mine\.py:1: SyntaxError: "),
        ("x = 1\nimport no_such_package\n", "", r"mine\.py:2: ModuleNotFoundError: "),
        ("def get_config():\n    return 1 / 0\n", "", r"mine\.py:2: ZeroDivisionError: "),
        ("def get_config():\n    raise ValueError('a\\nb')\n", "", r"mine\.py:2: ValueError: a b"),
        ("raise SystemExit(3)\n", "", r"mine\.py:1: SystemExit: 3"),
        ("config = 3\n", "", r"mine\.py: has no get_config"),
        ("def get_config():\n    return 3\n", "", r"mine\.py: get_config returned int"),
        ("def get_config():\n    return {}\n", ":quick", r"mine\.py: has no variants"),
    ],
)
def test_a_config_file_that_fails(tmp_path: Path, text: str, variant: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        load_text(tmp_path, text, variant)
    assert "\n" not in str(raised.value)


def test_an_unknown_variant_names_those_there_are() -> None:
    with pytest.raises(UserError, match=r"cifar_homo\.py: unknown variant 'fast'; known: paper, q"):
        config_file.load(f"{CONFIGS / 'cifar_homo.py'}:fast")
    with pytest.raises(UserError, match="did you mean 'quick'"):
        config_file.load(f"{CONFIGS / 'cifar_homo.py'}:quik")


def test_a_missing_config_file_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no such config; did you mean '.*cifar_homo\.py'"):
        config_file.load(f"{CONFIGS / 'cifar_hom.py'}:quick")


def test_a_shipped_config_is_found_by_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config_file.names() == sorted(VARIANTS)
    for name in ("digits_quick", "configs/digits_quick.py"):
        assert config_file.find(Path(name)) == CONFIGS / "digits_quick.py"
        assert config_file.load(name).rounds == 15
        assert config_file.load(f"{name}:quick").rounds == 3
    known = config_file.expand_variants("mnist_fedavg:table1_2nn_*,quick")
    assert len(known) > 2
    assert all(spec.startswith("mnist_fedavg:table1_2nn_") for spec in known[:-1])
    assert config_file.load(known[0]).network.name == "2nn"


def test_a_file_goes_before_a_shipped_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "from fednas_jax.config import default\ndef get_config():\n    return default()\n"
    (tmp_path / "configs").mkdir()
    (tmp_path / "digits_train").mkdir()  # a folder is no file
    for path in ("digits_quick", "configs/digits_quick.py"):
        (tmp_path / path).write_text(text)
        assert config_file.load(path).rounds == 50
    assert config_file.load("digits_train").rounds == 20
    (tmp_path / "configs" / "mine.py").write_text(text)
    with pytest.raises(UserError, match=r"did you mean 'configs/mine\.py'"):
        config_file.load("configs/mined.py")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("digit_quick", "digits_quick"),
        ("digits_quick.py", "digits_quick"),
        ("configs/digit_quick.py", "configs/digits_quick.py"),
        ("cifar_hetero_trian:quick", "cifar_hetero_train"),
    ],
)
def test_a_misspelt_name_names_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"no such config; did you mean '{meant}'"):
        config_file.load(given)
    with pytest.raises(UserError, match="no such config; known: cifar_hetero, "):
        config_file.load("qqq")


@pytest.mark.parametrize("variant", ["", ":quick"])
def test_a_config_file_that_cannot_be_looked_at(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "x" * 300
    for path, reason in ((f"{long}.py", "File name too long"), ("~nobody-here/x.py", "no such us")):
        with pytest.raises(UserError, match=rf"^--config: {path}: {reason}"):
            config_file.load(path + variant)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(paths.os, "stat", refuse)
    with pytest.raises(UserError, match=r"^--config: a\.py: Permission denied; "):
        config_file.load("a.py" + variant)


def test_a_config_file_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text(
        "from fednas_jax.config import default\ndef get_config(variant=''):\n    return default()\n"
    )
    assert config_file.load("~/mine.py").rounds == 50
    assert config_file.load("~/mine.py:quick").rounds == 50


def test_a_colon_in_a_file_name(tmp_path: Path) -> None:
    path = tmp_path / "mine:1.py"
    path.write_text(
        "from fednas_jax.config import default\ndef get_config():\n    return default()\n"
    )
    assert config_file.load(str(path)).rounds == 50
    assert config_file.split("a/b.py:quick") == (Path("a/b.py"), "quick")
