"""The table of a comparison says what its counts include."""

from typing import Any

from fednas_jax.studies import comparison_results


def row(**counts: int) -> dict[str, Any]:
    runs = [{"error": "", "test_accuracy": 0.5, **counts}, {"error": "broken"}]
    summary = comparison_results.summarized(runs)
    return {"network": "genotype", "config_file": "configs/a.json", **summary, "runs": runs}


def test_a_count_with_an_auxiliary_head_says_so() -> None:
    with_head = row(parameters=773_092, auxiliary_parameters=435_466)
    without = row(parameters=337_626, auxiliary_parameters=0)
    earlier = row(parameters=337_626)  # of a version that did not record it
    _, _, *lines = comparison_results.table([with_head, without, earlier]).splitlines()
    cells = [line.split(" | ")[4] for line in lines]
    assert cells == ["773,092 (with 435,466 of the auxiliary head)", "337,626", "337,626"]
