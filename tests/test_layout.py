"""Which run of several stages counts."""

from pathlib import Path

import pytest

from fednas_jax import layout
from fednas_jax.errors import UserError


@pytest.mark.parametrize(
    ("made", "counts"),
    [(["."], "."), (["search", "train"], "train"), (["train"], "train"), ([], "."),
     ([".", "search"], ".")],
)  # fmt: skip
def test_which_run_counts(tmp_path: Path, made: list[str], counts: str) -> None:
    for name in made:
        (tmp_path / name / "checkpoints" / "000003").mkdir(parents=True)
    assert layout.last(tmp_path) == tmp_path / counts


@pytest.mark.parametrize("begun", [False, True])
def test_a_training_without_a_checkpoint_is_not_the_search(tmp_path: Path, begun: bool) -> None:
    (tmp_path / "search" / "checkpoints" / "000003").mkdir(parents=True)
    if begun:
        (tmp_path / "train" / "checkpoints" / ".tmp-1-5").mkdir(parents=True)
    with pytest.raises(UserError, match=r"training has no checkpoint yet; .*search is needed$"):
        layout.last(tmp_path)
