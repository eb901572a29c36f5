"""A rendered image world with known classes, masks, depth and planted copies, for trials without a network."""

from lvd_curate.sample_corpus.write import SampleCorpus, build_sample_corpus

__all__ = ["SampleCorpus", "build_sample_corpus"]
