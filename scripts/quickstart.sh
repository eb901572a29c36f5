#!/usr/bin/env bash
# The whole system end to end on a rendered image world: no download, no label in training, six minutes on two CPU cores.
# Each command is printed as it could be typed. Started again, every tool goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-quickstart}
mkdir -p "$out"
echo "The whole chain, into $out/: six minutes on two quiet CPU cores. Interrupted, the same command goes on."

step() { printf '\n== %s\n' "$1"; }
run() { printf '$ %s\n' "$*"; "$@"; }

step "1/5  render an image world: a pool, seeds, labelled train and test"
run curate sample-corpus "$out/corpus"

step "2/5  train a small encoder on the seeds, without labels"
run pretrain tiny data.path="$out/corpus/seeds" out="$out/runs/seeds" optim.steps=100

step "3/5  curate: deduplicate, stay clear of the test set, retrieve what is like the seeds"
run curate build-lvd --pool "$out/corpus/pool" --seeds objects="$out/corpus/seeds" --exclude test="$out/corpus/test" \
  --out "$out/curated" embed.encoder="$out/runs/seeds"

step "4/5  pretrain a vision transformer on the curated images, without labels"
run pretrain tiny data.path="$out/curated" out="$out/runs/vit" optim.steps=600

step "5/5  evaluate it beside an untrained one of the same shape and beside raw pixels"
run evaluate benchmark --ckpt "$out/runs/vit" --data "$out/corpus" --baseline untrained:"$out/runs/vit/model" \
  --baseline pixels --out "$out/results"

printf '\ncurated dataset  %s\nmodel            %s\nreport           %s\n' \
  "$out/curated" "$out/runs/vit/model" "$out/results/report.html"
