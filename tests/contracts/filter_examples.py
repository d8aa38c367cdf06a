"""Filters for the contracts that need something to be made: by class name, a function that gives one."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from bloomery.stages.learned import Classified, Perplexity, TrainClassifier, TrainNgram
from bloomery.stages.learned import Examples as Labelled
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.stages.synthesis import Judge, Judged
from bloomery.store import Store
from bloomery.text.filters import Decontaminate, Filter, Length, Only, WhiteSpace
from bloomery.text.readers import TaleConversations, TaleStories


class Examples(dict[str, Callable[[], Filter]]):
    """How to make filters with required fields, and where the artifacts of the stages among their fields lie."""

    @cached_property
    def _folder(self) -> TemporaryDirectory[str]:
        return TemporaryDirectory()

    def folder_of(self, stage: Any) -> Path:
        """The folder of the artifact of a (small) stage, which is made where it isn't there."""
        return stage.run(RunContext(store=Store(Path(self._folder.name)), quiet=True)).path


class Alternately(Judge):
    """Finds every other row good."""

    def judge(self, rows, context, inputs, workspace) -> pa.Table:
        return pa.table({"id": [id for id, _ in rows], "value": [float(i % 2) for i in range(len(rows))]})


STORIES = Prepare(source=TaleStories(count=20))
TALKS = Prepare(source=TaleConversations(count=20))
KINDS = TrainClassifier(examples=(Labelled(label="story", corpus=STORIES), Labelled(label="talk", corpus=TALKS)), buckets=1 << 10)

EXAMPLES = Examples()
EXAMPLES["Perplexity"] = lambda: Perplexity(model=TrainNgram(corpus=STORIES), max_perplexity=50.0)
EXAMPLES["Classified"] = lambda: Classified(model=KINDS, label="story", min_score=0.5)
EXAMPLES["Only"] = lambda: Only(language=("de",), filters=(WhiteSpace(), Length(min_chars=3)))
EXAMPLES["Decontaminate"] = lambda: Decontaminate(tests=(TaleStories(count=3),), action="mask")
EXAMPLES["Judged"] = lambda: Judged(by=Alternately(corpus=TALKS), at_least=0.5)
