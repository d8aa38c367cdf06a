"""Rollout engines: who writes the texts that a policy learns from, as values: the training itself, or a server beside it."""

from bloomery.train.engines.bloomery import BloomeryEngine
from bloomery.train.engines.engine import OwnEngine, Reach, RolloutEngine, Text, TextWriter, Wanted
from bloomery.train.engines.remote import RemoteEngine
from bloomery.train.engines.vllm import VLLMEngine

__all__ = ["BloomeryEngine", "OwnEngine", "Reach", "RemoteEngine", "RolloutEngine", "Text", "TextWriter", "VLLMEngine", "Wanted"]
