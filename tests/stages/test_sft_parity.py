"""The loss of instruction tuning beside trl's: the same conversations, template and weights, from text to number."""

import pytest

pytest.importorskip("trl", reason="needs trl, the peer that the loss is compared with: pip install trl")

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from bloomery.data import Packed, TokenShards
from bloomery.data.encodings import Chat
from bloomery.data.packing import Each
from bloomery.models import LlamaConfig, load_hub, write_model
from bloomery.nn import FanInInit
from bloomery.objectives import CausalLM, Models
from bloomery.stages.evaluate import conversations
from bloomery.stages.export import Export
from bloomery.stages.init import Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train
from bloomery.store import Store
from bloomery.text.readers import TaleConversations
from bloomery.text.tales import Tales

MODEL = LlamaConfig(vocab_size=512, d_model=32, n_layers=2, n_heads=4, d_ff=64, max_seq_len=256, init=FanInInit(gain=2.0, embedding=1.0))
TALKS = 4


def test_conversations_have_the_loss_that_trl_gives_them(tmp_path):
    context = RunContext(store=Store(tmp_path / "store"), quiet=True, trackers=())
    corpus = Prepare(source=TaleConversations(tales=Tales(size="tiny"), count=TALKS, questions=3))
    tokenizer = TrainTokenizer(corpora=(corpus,), vocab_size=512)
    tokens = Tokenize(corpus=corpus, tokenizer=tokenizer, encoding=Chat())
    stage = Train(
        tokenizer=tokenizer, init=Scratch(model=MODEL), sources=(Share(tokens=tokens),), packing=Each(), max_seq_len=256, batch_tokens=1024,
        steps=1,
    )  # fmt: skip
    workspace = context.store.workspace(stage.reference)
    write_model(workspace.path / "model", MODEL, MODEL.build(3))
    source = tokenizer.run(context).checked("tokenizer.json")
    (workspace.path / "tokenizer").mkdir()
    (workspace.path / "tokenizer" / "tokenizer.json").write_bytes(source.read_bytes())
    workspace.finish(stage=stage.kind(), name=stage.name, key=stage.key, fields={}, inputs={}, summary={})
    folder = Export(model=stage).run(context).path

    _, model = load_hub(folder)
    batch = Packed(TokenShards.open(tokens.run(context)), Each(), time=256, seed=0).batch(0, TALKS)
    ((total, _),) = CausalLM().read(Models(model.eval()), batch)
    weight = batch.loss_weight.sum()

    rows = [{"messages": messages} for _, messages, _ in conversations(corpus.run(context))]
    arguments = SFTConfig(
        output_dir=str(tmp_path / "trl"), assistant_only_loss=True, max_length=257, per_device_train_batch_size=TALKS, report_to=[],
        use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True,
    )  # fmt: skip
    peer, reader = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)
    trainer = SFTTrainer(model=peer, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=reader)
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(TALKS)])
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model.eval(), dict(inputs))

    assert int((inputs["labels"] != -100).sum()) == int(weight)  # the same tokens are learnt
    assert float(total / weight) == pytest.approx(float(theirs), abs=1e-6)
