"""`Export`: a trained model as a folder that others read; see `stages.sharing.folder` for what is in it."""

from __future__ import annotations

from typing import Any, ClassVar

from bloomery.core.errors import ConfigError
from bloomery.models.gguf import GgufType
from bloomery.models.hub import Written
from bloomery.stages.sharing.folder import Sharing, write_folder
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.trained import Trained
from bloomery.store import Workspace
from bloomery.text.chat import ChatTemplate


class Export(Stage):
    """Writes what a training left as a hub folder: `AutoModelForCausalLM.from_pretrained(artifact)` gives the same logits. All that is written
    is read back and compared.

    Of a model with a prompt or a prefix the weights are those of its base, and `PeftModel.from_pretrained(base, artifact / "adapter")` is it.

    Example:
        >>> Export(model=chat).run(context).path
        PosixPath('store/Export/main-0f3c…')
        >>> Export(model=chat, weights="bf16", gguf=("q8_0",), prompts=("Who are you?",), evaluated=(exam,))
    """

    contract: ClassVar[int] = 2

    model: Trained
    """The model to write."""
    template: ChatTemplate = ChatTemplate()
    """How conversations are put to it."""
    weights: Written = "fp32"
    """What weights are rounded to."""
    gguf: tuple[GgufType, ...] = ()
    """A GGUF file each, its matrices in this type: "f32", "f16", "bf16", "q8_0", "q4_0"."""
    prompts: tuple[str, ...] = ()
    """Questions whose answers the demo page shows."""
    evaluated: tuple[Stage, ...] = ()
    """Measurements of the model, whose figures its card tells."""
    licence: str = ""
    """The hub's word for it, "apache-2.0" say; empty leaves the card without."""

    def check(self) -> None:
        if len(set(self.gguf)) < len(self.gguf):
            raise self.refuse("gguf", "names a type twice; name each once")
        for stage in self.evaluated:
            if self.model.reference not in (one.reference for one in stage.inputs().values()):
                raise ConfigError(f"Export.evaluated has {stage.reference}, which measures another model than {self.model.reference}; leave "
                                  "it out")  # fmt: skip

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        sharing = Sharing(self.template, self.weights, self.gguf, self.prompts, self.licence)
        measured = [inputs[stage] for stage in self.evaluated]
        return write_folder(workspace.path, inputs[self.model], sharing, context.store, context.say, measured)
