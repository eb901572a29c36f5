"""Classifiers on frozen features: nearest neighbours, stacked linear heads, logistic regression, few shots."""
