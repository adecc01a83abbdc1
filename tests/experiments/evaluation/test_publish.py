from headstart.experiments.evaluation.publish import headline

ONE = {"pearson": 0.5, "pearson_interval": [0.4, 0.6]}
OTHER = {"pearson": 0.9, "pearson_interval": [0.8, 1.0]}


def test_the_headline_of_one_target_has_its_interval():
    found = headline({"val": {"targets": {"a": ONE}}})
    assert found == {"val": {"metric": "pearson", "value": 0.5, "interval": [0.4, 0.6]}}


def test_the_headline_of_several_targets_is_their_mean_and_has_no_interval():
    found = headline({"val": {"targets": {"a": ONE, "b": OTHER}}})
    assert found == {"val": {"metric": "pearson", "value": 0.7, "interval": [None, None]}}
