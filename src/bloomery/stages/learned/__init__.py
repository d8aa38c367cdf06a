"""Stages that learn a model of texts from prepared corpora, and the filters that judge by one."""

from bloomery.stages.learned.classifier import Classified, Examples, TrainClassifier
from bloomery.stages.learned.embedder import TrainEmbedder
from bloomery.stages.learned.ngram import Perplexity, TrainNgram

__all__ = ["Classified", "Examples", "Perplexity", "TrainClassifier", "TrainEmbedder", "TrainNgram"]
