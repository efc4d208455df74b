"""A run as a value: from the options of a command line, and what it records of them."""

from vaegen_ray.launch.options import parser
from vaegen_ray.service.config import RunConfig, RunReport


def test_a_configuration_comes_from_options_and_records_them_without_the_storage() -> None:
    options = vars(parser("").parse_args(["--storage", "s3://key:secret@bucket", "--fresh", "--epochs", "7"]))
    config = RunConfig.from_options(options)
    assert (config.storage, config.fresh, config.bundle_size) == ("s3://key:secret@bucket", True, None)
    assert config.describe()["epochs"] == 7 and "secret" not in str(config.describe())
    assert RunConfig(storage="s3://key:secret@bucket").describe()["checkpoint_seconds"] == 10.0
    assert "secret" not in str(RunConfig(storage="s3://key:secret@bucket").describe())


def test_a_run_is_complete_when_nothing_is_left_and_no_bundle_was_given_up() -> None:
    def report(committed: int, *, abandoned: bool = False) -> RunReport:
        return RunReport(sweep="s", where="s", total=3, committed=committed, seconds=1.0, abandoned=abandoned)

    assert report(3).complete and report(3).left == 0
    assert not report(2).complete and report(2).left == 1
    assert not report(3, abandoned=True).complete
