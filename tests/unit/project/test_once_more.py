"""What failed is run once more where its neighbours may be the reason, and nowhere else."""

import runpy
from pathlib import Path

again = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "once_more.py"))["again"]


def test_few_tests_of_services_are_run_again_and_nothing_else_is() -> None:
    some = [f"tests/services/test_a.py::test_{number}" for number in range(4)]
    assert again(some[:3]) == some[:3]
    assert again(some) == []
    assert again([]) == []
    for other in ("kill/test_kills", "unit/streams/test_settle", "contract/test_imap_plain"):
        assert again([some[0], f"tests/{other}.py::test_it"]) == []
