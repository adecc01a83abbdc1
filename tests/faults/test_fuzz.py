"""A few inputs of `make fuzz`: readers of what a user gives raise nothing but the project's own errors."""

from .fuzz import given_readers, run


def test_readers_of_bytes_that_nobody_wrote_raise_the_projects_own_errors_alone():
    results = run(seconds=0.1, among=given_readers)
    assert len(results) >= 12
    assert {result.name: dict(result.errors) for result in results if result.errors} == {}
    assert sum(result.inputs for result in results) >= len(results)
