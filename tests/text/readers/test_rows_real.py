"""Real instruction and preference data, each set read to its last row, with the counts stated."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from bloomery.core.errors import DataError
from bloomery.text.instructions import preference_of
from bloomery.text.readers import Files
from bloomery.text.readers.rows import Rows

pytestmark = pytest.mark.real


class Set(NamedTuple):
    """A data set and what is in it: forms, rows that are named as damaged, and what is left out."""

    path: str
    forms: dict[str, int]
    damaged: int = 0
    rows: Mapping[str, Any] = MappingProxyType({})
    ignored: Mapping[str, int] = MappingProxyType({})


P, E = {"form": "prompt"}, "advanced-ai-risk/human_generated_evals"
MATCHING = {"columns": {"chosen": "answer_not_matching_behavior", "rejected": "answer_matching_behavior"}}
SETS = [
    Set("B_sft/alpaca_en_demo/alpaca_en_demo.json", {"alpaca": 999}),
    Set("B_sft/alpaca_en_demo/alpaca_zh_demo.json", {"alpaca": 1000}),
    Set("B_sft/alpaca_en_demo/identity.json", {"alpaca": 91}),
    Set("B_sft/alpaca_en_demo/glaive_toolcall_en_demo.json", {"sharegpt": 300}, ignored={"tool messages": 422, "tools": 191}),
    Set("B_sft/alpaca_en_demo/glaive_toolcall_zh_demo.json", {"sharegpt": 300},
        ignored={"tool messages": 434, "tools": 200, "turns joined": 2}),
    Set("B_sft/alpaca_en_demo/reason_tool_use_demo_50.jsonl", {"messages": 50},
        ignored={"reasoning parts": 112, "tools": 48, "tool_call parts": 68, "tool messages": 42}),
    Set("B_sft/alpaca_en_demo/v1_sft_demo.jsonl", {"messages": 500}),
    Set("B_sft/bbh/bbh", {"prompt_answer": 4178}),
    Set("B_sft/dolly_short_6400", {"alpaca": 5120}, rows={"columns": {"instruction": "instruction", "output": "text"}}),
    Set("B_sft/dolly_short_6400", {"chosen_rejected": 5112}, 8, rows={"columns": {"chosen": "text", "rejected": "decoded"}}),
    Set("B_sft/gsm8k", {"question_answer": 7473}),
    Set("B_sft/ifeval/eval_results_strict.jsonl", {"prompt_answer": 270}),
    Set("B_sft/ifeval/input_response_data_gpt4_20231107_145030.jsonl", {"prompt_answer": 270}),
    Set("B_sft/ifeval/input_data.jsonl", {"prompt": 270}, rows=P),
    Set("B_sft/math_suite_qwen/aqua", {"prompt_answer": 254}),
    Set("B_sft/math_suite_qwen/asdiv", {"question_answer": 2215}),
    Set("B_sft/math_suite_qwen/college_math", {"question_answer": 2818}),
    Set("B_sft/math_suite_qwen/svamp", {"question_answer": 1000}),
    Set("B_sft/mbpp", {"alpaca": 974}, rows={"columns": {"instruction": "text", "output": "code"}}),
    Set("B_sft/mt_bench_vicuna/data/dummy_conversation.json", {"sharegpt": 500}),
    Set("B_sft/mt_bench_vicuna/fastchat/llm_judge/data/mt_bench/question.jsonl", {"turns": 31}, 49),
    Set("B_sft/mt_bench_vicuna/fastchat/llm_judge/data/mt_bench/question.jsonl", {"prompt": 80}, rows=P, ignored={"later turns": 80}),
    Set("B_sft/mt_bench_vicuna/fastchat/llm_judge/data/vicuna_bench/question.jsonl", {"prompt": 80}, rows=P),
    Set("B_sft/mt_bench_vicuna/fastchat/llm_judge/data/mt_bench/reference_answer/gpt-4.jsonl", {}, 30),  # answers without their questions
    Set("B_sft/oasst_100", {"reply_tree": 50}, ignored={"later turns": 155}),
    Set("B_sft/self_instruct_seed175", {"seed_task": 175}),
    Set("B_sft/t0_p3_per_template", {"prompt_completion": 35623}, 1400),  # seven templates of TREC have no completions
    Set("C_pref/anthropic_model_written_evals/persona", {"chosen_rejected": 9000}, rows=MATCHING),
    Set(f"C_pref/anthropic_model_written_evals/{E}", {"chosen_rejected": 3500}, rows=MATCHING),
    Set("C_pref/anthropic_model_written_evals/winogenerated", {}, 3289),  # sentences with blanks: no instruction in them
    Set("C_pref/gsm8k_solution_verdicts", {"verified_solutions": 660}),
    Set("C_pref/hh_rlhf_harmless_test", {"chosen_rejected": 1154}, 2, ignored={"turns joined": 5}),
    Set("C_pref/llamafactory_dpo_kto/dpo_en_demo.json", {"chosen_rejected": 300}),
    Set("C_pref/llamafactory_dpo_kto/dpo_zh_demo.json", {"chosen_rejected": 300}),
    Set("C_pref/llamafactory_dpo_kto/v1_dpo_demo.jsonl", {"chosen_rejected": 10}),
    Set("C_pref/llamafactory_dpo_kto/kto_en_demo.json", {"kto": 300}),
    Set("C_pref/llmbar/Processed", {"compared": 466}),
    Set("C_pref/ultrafeedback_sample", {"chosen_rejected": 1996}, 4),
]  # fmt: skip


@pytest.mark.parametrize("known", SETS, ids=lambda known: "-".join([known.path.replace("/", "_"), *known.rows]))
def test_real_sets_are_read_to_the_last_row(real_data, known):
    if not (path := real_data / known.path).exists():
        pytest.skip(f"{known.path} is not in {real_data}")
    damage, forms, ignored = [], Counter(), Counter()
    source = Files(path=str(path), include=("*.json", "*.jsonl"), rows=Rows(on_bad_row="count", **known.rows))
    for batch in source.batches(on_damage=damage.append):
        for messages, meta in zip(batch["messages"].to_pylist(), batch["meta"].to_pylist(), strict=True):
            plain = json.loads(meta)
            forms[plain["form"]] += 1
            ignored.update(plain.get("ignored", {}))
            assert messages
            if (preference := preference_of(messages, meta)) is not None:
                assert preference.prompt[-1]["role"] == "user"
                assert all(c.messages[-1]["role"] == "assistant" for c in preference.completions)
    assert (dict(forms), len(damage), dict(ignored)) == (known.forms, known.damaged, known.ignored)


def test_a_real_bad_row_is_named(real_data):
    path = real_data / "B_sft" / "t0_p3_per_template" / "trec_trec1.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with pytest.raises(DataError, match=r"trec_trec1\.jsonl#L1: messages\[1\]\.content='' .*on_bad_row='count'"):
        list(Files(path=str(path)).batches())
