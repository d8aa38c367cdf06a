"""What `bloomery show` tells of an artifact beside its lineage."""

from io import StringIO

from click.testing import CliRunner
from rich.console import Console
from tests.toys import Mine

from bloomery.cli import show as drawn
from bloomery.cli.main import cli
from bloomery.stages.stage import Inputs, RunContext
from bloomery.store import Store, Workspace


class Foretold(Mine):
    """Keeps what was planned beside what was measured, as trainings do."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, object]:
        found = super().work(context, inputs, workspace)
        return found | {"plan": {"weights": {"planned": 2048.0, "measured": 1024.0, "ratio": 0.5}, "tensors": {"planned": 4096.0}}}


def test_show_tells_what_was_planned_beside_what_was_measured(tmp_path, monkeypatch):
    told = StringIO()
    monkeypatch.setattr(drawn, "console", Console(file=told, width=200))
    context = RunContext(store=Store(tmp_path), quiet=True)
    for stage in (Foretold(name="planned", ore="tin"), Mine(name="plain", ore="tin")):
        stage.run(context)
        told.truncate(0)
        done = CliRunner().invoke(cli, ["show", stage.reference, "--store", str(tmp_path)])
        assert done.exit_code == 0, done.output
        assert ("weights: planned 2 KiB, measured 1 KiB, ratio 0.50" in told.getvalue()) == isinstance(stage, Foretold)
        assert ("tensors at their most: planned 4 KiB, measured –, ratio –" in told.getvalue()) == isinstance(stage, Foretold)
