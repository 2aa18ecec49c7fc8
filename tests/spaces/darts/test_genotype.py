"""Genotype: the derivation rule and its ties, counts, JSON both ways, the published ones."""

import json
import math

import numpy as np
import pytest

from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts import genotype as gt

NODE_3 = range(9, 14)  # the rows of node 3's five edges


def alphas(normal=None, reduce=None):
    zeros = np.zeros((14, 8))
    return {
        "normal": zeros if normal is None else normal,
        "reduce": zeros if reduce is None else reduce,
    }


def test_edges_are_in_darts_order():
    assert len(gt.EDGES) == 14
    assert gt.EDGES[:5] == ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))
    assert gt.EDGES[9:] == ((3, 0), (3, 1), (3, 2), (3, 3), (3, 4))


def test_all_ties_keep_the_lower_states_and_the_lowest_operation():
    genotype = gt.derive(alphas())
    assert genotype.normal == (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * 4
    assert genotype.normal == genotype.reduce
    assert genotype.normal_concat == genotype.reduce_concat == (2, 3, 4, 5)


def test_sources_are_listed_best_first():
    alpha = np.zeros((14, 8))
    alpha[NODE_3[1], 4] = 1.0
    alpha[NODE_3[4], 6] = 2.0
    assert gt.derive(alphas(alpha)).normal[6:] == (("dil_conv_3x3", 4), ("sep_conv_3x3", 1))


def test_a_tie_between_edges_keeps_the_lower_state():
    alpha = np.zeros((14, 8))
    alpha[[NODE_3[1], NODE_3[2], NODE_3[4]], 5] = 1.0
    assert gt.derive(alphas(alpha)).normal[6:] == (("sep_conv_5x5", 1), ("sep_conv_5x5", 2))


def test_a_tie_between_operations_keeps_the_lower_index():
    alpha = np.zeros((14, 8))
    alpha[0, [5, 7]] = 1.0
    alpha[1, [3, 4]] = 2.0
    assert gt.derive(alphas(alpha)).normal[:2] == (("skip_connect", 1), ("sep_conv_5x5", 0))


def test_none_enters_the_denominator_only():
    alpha = np.zeros((14, 8))
    alpha[:, 4] = 1.0
    # Node 1 reads states 0, 1, 2. State 0 has the largest alpha of an operation, but `none` takes
    # most of its probability: e^2 / (e^2 + e^3 + 6) = 0.22 against e / (e + 7) = 0.28.
    alpha[2, 0], alpha[2, 4] = 3.0, 2.0
    genotype = gt.derive(alphas(alpha))
    assert genotype.normal[2:4] == (("sep_conv_3x3", 1), ("sep_conv_3x3", 2))
    alpha[:, 0] = 50.0  # `none` everywhere almost certain: still not chosen
    assert all(name != "none" for name, _ in gt.derive(alphas(alpha)).normal)


def test_large_alphas_do_not_overflow():
    alpha = np.zeros((14, 8))
    alpha[:, 7] = 1e4
    assert gt.derive(alphas(alpha)).normal[0] == ("dil_conv_5x5", 0)
    assert gt.entropy(alphas(alpha))["normal"] == 0.0


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"normal": np.zeros((14, 8))}, "'reduce' is missing"),
        (alphas(np.zeros((14, 7))), r"alphas\['normal'\]: shape \(14, 7\)"),
        (alphas(None, np.full((14, 8), np.nan)), r"alphas\['reduce'\]: .* not finite"),
    ],
)
def test_bad_alphas_are_refused(bad, match):
    with pytest.raises(UserError, match=match):
        gt.derive(bad)


def test_entropy_by_hand():
    alpha = np.full((14, 8), -1000.0)
    alpha[:, 0] = 0.0  # a sure operation: 0
    alpha[:7, 1] = 0.0  # on half of the edges two equal ones: ln 2
    entropy = gt.entropy(alphas(alpha))
    assert entropy["normal"] == pytest.approx(math.log(2) / 2)
    assert entropy["reduce"] == pytest.approx(math.log(8))


def test_counts_of_the_published_genotypes():
    fednas, darts = gt.load("FedNAS_V1"), gt.load("DARTS_V2")
    assert gt.count_convolutions(fednas) == {"normal": 8, "reduce": 2}
    assert gt.count_skips(fednas) == {"normal": 0, "reduce": 1}
    assert gt.count_convolutions(darts) == {"normal": 6, "reduce": 0}
    assert gt.count_skips(darts) == {"normal": 2, "reduce": 3}
    assert gt.count_convolutions(gt.load("r2001_e50_45_n8_r3")) == {"normal": 8, "reduce": 3}


def test_fednas_v1_is_as_published():
    genotype = gt.load("FedNAS_V1")
    assert genotype.normal[4:] == (
        ("sep_conv_3x3", 1),
        ("sep_conv_5x5", 3),
        ("dil_conv_5x5", 3),
        ("sep_conv_3x3", 4),
    )
    assert genotype.reduce[:2] == (("max_pool_3x3", 0), ("skip_connect", 1))


@pytest.mark.parametrize("name", gt.names())
def test_every_published_genotype_loads_and_has_a_source(name):
    gt.validate(gt.load(name), name)
    assert "arXiv" in json.loads((gt.THIRD_PARTY / "genotypes.json").read_text())[name]["source"]


def test_random_genotypes_are_valid_and_seeded():
    drawn = [gt.random_genotype(np.random.RandomState(seed)) for seed in range(50)]
    for genotype in drawn:
        gt.validate(genotype, "random")
        for first, second in zip(genotype.normal[::2], genotype.normal[1::2], strict=True):
            assert first[1] != second[1]
    assert len(set(drawn)) == 50
    assert drawn[0] == gt.random_genotype(np.random.RandomState(0))


def test_file_round_trip(tmp_path):
    path = tmp_path / "genotype.json"
    genotype = gt.random_genotype(np.random.RandomState(3))
    gt.save(path, genotype)
    assert gt.load(path) == gt.load(str(path)) == genotype
    value = json.loads(path.read_text()) | {"name": "mine", "source": "a run"}
    path.write_text(json.dumps(value))
    assert gt.load(path) == genotype


def test_a_path_may_begin_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    gt.save(tmp_path / "mine.json", gt.load("DARTS_V1"))
    assert gt.load("~/mine.json") == gt.load("DARTS_V1")


def test_the_same_source_twice_and_part_of_the_nodes_can_be_built():
    value = gt.to_json(gt.load("DARTS_V2"))
    value["normal"][1] = ["sep_conv_3x3", 0]
    value["reduce_concat"] = [3, 5]
    genotype = gt.from_json(value, "x")
    assert genotype.reduce_concat == (3, 5)
    assert gt.from_json(gt.to_json(genotype), "x") == genotype


def edited(**fields):
    value = gt.to_json(gt.load("FedNAS_V1"))
    value.update(fields)
    return value


def with_pair(pair, index=0):
    value = edited()
    value["normal"][index] = pair
    return value


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ([], "x.json: must be an object"),
        ({}, "x.json: normal: is missing"),
        (edited(reduce=None), "x.json: reduce: must be a list"),
        (edited(normal_concatt=[2]), "unknown key 'normal_concatt'; did you mean 'normal_concat'"),
        (edited(name=3), "x.json: name: must be a text"),
        (edited(normal=[["skip_connect", 0]]), "x.json: normal: 1 entries; must be 8 pairs"),
        (with_pair("skip_connect"), r"x.json: normal\[0\]: must be a pair"),
        (with_pair(["skip_connect"]), r"normal\[0\]: must be a pair"),
        (with_pair(["sep_conv_3", 0]), "unknown operation 'sep_conv_3'; did you mean 'sep_conv_3x"),
        (with_pair(["none", 0]), r"normal\[0\]: unknown operation 'none'"),
        (with_pair([["a"], 0]), r"normal\[0\]: unknown operation"),
        (with_pair(["a\nb", 0]), r"normal\[0\]: unknown operation"),
        (with_pair(["skip_connect", 2]), r"source state 2; node 0 can read the integers 0 to 1"),
        (with_pair(["skip_connect", 5], 7), r"normal\[7\]: source state 5; node 3"),
        (with_pair(["skip_connect", -1]), "source state -1"),
        (with_pair(["skip_connect", 1.0]), "source state 1.0"),
        (with_pair(["skip_connect", True]), "source state True"),
        (edited(normal_concat=[]), "x.json: normal_concat: must be one or more"),
        (edited(reduce_concat=[1, 2]), "x.json: reduce_concat: must be one or more"),
        (edited(reduce_concat=[2, 6]), "x.json: reduce_concat: must be one or more"),
        (edited(reduce_concat=[3, 2]), "x.json: reduce_concat: must ascend"),
        (edited(reduce_concat=[3, 3]), "x.json: reduce_concat: must ascend"),
        (edited(reduce_concat=[[2]]), "x.json: reduce_concat: must be one or more"),
    ],
)
def test_malformed_input_is_named_in_one_line(value, match):
    with pytest.raises(UserError, match=match) as caught:
        gt.from_json(value, "x.json")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_built_is_not_written(tmp_path):
    broken = gt.load("DARTS_V1")._replace(normal=(("none", 0),) * 8)
    with pytest.raises(UserError, match=r"normal\[0\]: unknown operation 'none'"):
        gt.save(tmp_path / "x.json", broken)
    assert not list(tmp_path.iterdir())


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(UserError, match="neither a known name nor a file; did you mean 'DARTS_V"):
        gt.load("DARTS_V3")
    with pytest.raises(UserError, match=r"^config\.genotype: ~nosuchuser/x\.json: no such user"):
        gt.load("~nosuchuser/x.json")
    with pytest.raises(UserError, match=r"missing.json: cannot be read"):
        gt.load(tmp_path / "missing.json")
    with pytest.raises(UserError, match="cannot be read"):
        gt.load(tmp_path)
    path = tmp_path / "x.json"
    path.write_text("{")
    with pytest.raises(UserError, match="not a JSON file"):
        gt.load(path)


def test_edges_with_the_same_alphas_in_another_order_tie():
    """Where terms of a softmax are summed in another order, their sum differs in the last bit."""
    rng = np.random.RandomState(0)
    for _ in range(100):
        row = rng.randn(8)
        alpha = np.zeros((14, 8))
        # All edges of node 3 hold the same alphas; the largest stays where it is, never at `none`.
        best = int(row[1:].argmax()) + 1
        row[0] = min(row[0], row[best] - 1e-3)
        others = [i for i in range(8) if i != best]
        for edge in NODE_3:
            alpha[edge, best] = row[best]
            alpha[edge, others] = row[rng.permutation(others)]
        assert [state for _, state in gt.derive(alphas(alpha)).normal[6:]] == [0, 1]
