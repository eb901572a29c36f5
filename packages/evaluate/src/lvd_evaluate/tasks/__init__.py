"""What is read: labelled, dense, ranked and moving images, further test sets, and the paper's data sets as data."""
