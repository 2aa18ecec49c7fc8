"""How operations of a compiled program are told apart."""

import pytest

from benchmarks import profile_step

PROGRAM = """
  %fused.1 = f32[4]{0} fusion(%a), kind=kLoop, metadata={op_name="jit(f)/cell/depthwise/mul"}
  ROOT %copy.2 = f32[4]{0} copy(%fused.1)
"""


def test_operations_by_name():
    assert profile_step.operations(PROGRAM) == {
        "fused.1": "jit(f)/cell/depthwise/mul/fused.1",
        "copy.2": "/copy.2",
    }


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("jit(f)/pool/padding/pad", "padding"),
        ("jit(f)/padding/pool/max", "pools"),
        ("jit(f)/optimizer/mul", "optimisers"),
        ("/dynamic-update-slice_fusion.3", "copies and zeros of loops"),
        ("jit(f)/add", "other"),
    ],
)
def test_the_innermost_scope_counts(path, kind):
    assert profile_step.kind(path) == kind


def test_share_of_the_peak(monkeypatch):
    monkeypatch.setattr(profile_step, "machine", lambda: {"GFLOP/s": 100.0, "GB/s": 10.0})
    rows = profile_step.against_peak(profile_step.cases.find("paper"), 2.0)
    # Two batches of 16; three passes of 300 million multiply-adds an image: 57.6 GFLOP.
    assert rows[-2].value == pytest.approx(28.8)
    assert rows[-1].value == pytest.approx(0.288)
