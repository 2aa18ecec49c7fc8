"""Genotypes as DARTS prints them: what is read, and what is refused."""

import pytest

from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts import genotype as gt
from fednas_jax.spaces.darts import genotype_text, networks

# DARTS_V2 as the code of DARTS prints it (a fact: https://github.com/quark0/darts).
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


@pytest.mark.parametrize("concat", ["range(2, 6)", "list(range(2, 6))", "(2, 3, 4, 5)"])
def test_what_darts_prints_is_the_published_genotype(concat):
    text = DARTS_V2.replace("[2, 3, 4, 5]", concat)
    assert gt.load(text) == gt.load("DARTS_V2")


def test_our_own_genotype_is_read_as_python_prints_it():
    assert gt.load(repr(gt.load("FedNAS_V1"))) == gt.load("FedNAS_V1")


def test_values_without_names_are_in_the_order_of_darts():
    text = DARTS_V2
    for name in genotype_text.FIELDS:
        text = text.replace(f"{name}=", "")
    assert gt.load(text) == gt.load("DARTS_V2")


@pytest.mark.parametrize("name", ["found.txt", "log", "found.json"])
def test_a_file_may_be_a_log_that_repeats_the_genotype(tmp_path, name):
    path = tmp_path / name
    path.write_text(f"12/01 epoch 49 (lr 0.1)\n12/01 genotype = {DARTS_V2}\nagain: {DARTS_V2}\n")
    assert gt.load(path) == gt.load("DARTS_V2")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (
            f"{DARTS_V2}\n{DARTS_V2.replace('dil_conv_3x3', 'dil_conv_5x5')}",
            "2 genotypes that differ, in the lines 1, 2;",
        ),
        (DARTS_V2[:-1], "is not closed"),
        ("Genotype(normal=[1], reduce=[2])", "other fields"),
        (f"{DARTS_V2[:-1]}, more=1)", "other fields"),
        (DARTS_V2.replace("[2, 3, 4, 5]", "range(0, 10 ** 9)"), "plain list"),
        (DARTS_V2.replace("[2, 3, 4, 5]", "open('x')"), "plain list"),
        (DARTS_V2.replace("'dil_conv_3x3'", "__import__('os')"), "plain list"),
        (DARTS_V2.replace("dil_conv_3x3", "dil_conv_3x4"), "normal.7.: unknown operation"),
        (DARTS_V2.replace("[2, 3, 4, 5]", "7"), "normal_concat: 7; a plain list is needed"),
        (DARTS_V2.replace("[2, 3, 4, 5]", "range(2, 9)"), "integers 2 to 5"),
        ("Genotype(normal=[1 2])", "is not Python"),
        (
            DARTS_V2.replace("[2, 3, 4, 5]", "1" + "+1" * 1500, 1),
            r"normal_concat: (1\+)+1?\.\.\.; a pla",
        ),
        (DARTS_V2.replace("[2, 3, 4, 5]", "a" + ".a" * 1400, 1), "plain list"),
        (DARTS_V2.replace("[2, 3, 4, 5]", "a" + "()" * 1400, 1), "plain list"),
        (DARTS_V2.replace("[2, 3, 4, 5]", "not " * 700 + "a", 1), "plain list|is not Python"),
        ("Genotype(normal=" + "[" * 3000 + "]" * 900 + ")", "is not"),
    ],
)
def test_a_damaged_one_is_refused_in_one_line(tmp_path, text, match):
    path = tmp_path / "genotype.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=match) as error:
        gt.load(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_no_code_of_a_genotype_is_run(tmp_path):
    canary = tmp_path / "canary"
    with pytest.raises(UserError):
        gt.load(DARTS_V2.replace("2)]", f"open({str(canary)!r}, 'w'))]"))
    assert not canary.exists()


def test_a_name_is_still_a_name():
    assert not genotype_text.is_text("Genotype")
    with pytest.raises(UserError, match="did you mean 'DARTS_V2'"):
        gt.load("DARTS_V22")


def test_a_text_may_be_copied_from_a_run():
    """So evaluation says that it cannot know which images the genotype was found by."""
    assert networks.origin({"genotype": DARTS_V2}) == {"genotype": None}
    assert networks.origin({"genotype": "DARTS_V2"}) == {}
    assert networks.origin({"genotype": "log.txt"}) == {"genotype": None}
