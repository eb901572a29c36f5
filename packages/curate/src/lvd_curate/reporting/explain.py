"""`curate explain`: why an image is in a dataset or not, stage by stage, in plain lines."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from lvd_curate.columns import DROPPED, EXCLUDE, KEPT, SEEDS
from lvd_curate.errors import InputError
from lvd_curate.inputs.file_names import show_name
from lvd_curate.reporting.card import describe
from lvd_curate.reporting.counts import FUNNEL
from lvd_curate.reporting.lookup import LISTED, Facts, find_files, gather_facts, suggest
from lvd_curate.reporting.story import name_damage, name_images, open_lineage, open_story

SHORT = 16  # digits of an id


def explain_image(dataset: Path, name: str) -> str:
    """Tell the whole story of one image; a list of files when the name fits several images.

    `name` is an id, or six or more of its first digits; or a path as lineage.parquet has it, or its end, or a longer
    path that ends in it. Raises InputError for a folder that is no dataset and for a name that fits nothing.
    """
    with name_damage(dataset):
        return tell_image(dataset, name)


def tell_image(dataset: Path, name: str) -> str:
    """Look an image up and tell its story."""
    lineage, story = open_lineage(dataset), open_story(dataset)
    files = find_files(lineage, name)
    if files.is_empty():
        raise InputError(f"nothing in {dataset} is named {show_name(name)!r}{suggest(lineage, name)}")
    if files["id"].n_unique() > 1 or (files["id"].null_count() and len(files) > 1):
        return list_matches(files, name)
    identity = files["id"][0]
    facts = gather_facts(dataset, story, identity)
    others = name_images(lineage, facts.ids(files))
    names = {other: f"{role} {source}: {path}" for other, role, source, path in others.rows()}
    stages = list_stages(describe(dataset)["config"])
    return "\n".join(map(show_name, tell(identity, files, facts, names, stages)))


def list_matches(files: pl.DataFrame, name: str) -> str:
    """Say which files a name fits."""
    lines = [f"{len(files):,} files are named {show_name(name)!r}; say more of the path, or an id:"]
    for identity, role, source, path in files.select("id", "role", "source", "path").head(LISTED).rows():
        lines.append(f"  {(identity or '(unreadable)')[:SHORT]:{SHORT}}  {role} {source}: {path}")
    if len(files) > LISTED:
        lines.append(f"  and {len(files) - LISTED:,} more")
    return "\n".join(map(show_name, lines))


def list_stages(config: dict[str, Any]) -> list[str]:
    """Return the stages that a recipe asked for, in their order."""
    asked = {
        "moderate": config["moderate"]["nsfw"] is not None or config["moderate"]["faces"] is not None,
        "rebalance": config["rebalance"]["target_size"] is not None,
    }
    return [stage for stage in FUNNEL if asked.get(stage, True)]


def tell(
    identity: str | None, files: pl.DataFrame, facts: Facts, names: dict[str, str], stages: list[str]
) -> Iterator[str]:
    """Yield the story's lines."""
    yield f"id {identity or '(none: no byte could be read)'}"
    for row in files.iter_rows(named=True):
        yield from tell_file(row, names, stages)
    roles = set(files["role"])
    if facts.touched_count:
        yield f"excluded: {say(facts.touched_count, 'image')} left: they, or copies of them, are like it"
        yield from list_images(facts.touched, "id", "score", names, facts.touched_count)
    elif roles == {EXCLUDE}:
        yield "excluded: nothing in pool and seeds is like it"
    yield from tell_moderation(facts.moderated)
    yield from tell_group(identity, facts, names)
    for row in facts.touches.iter_rows(named=True):
        partner = name_of(row["reference_id"], names)
        yield f"decontaminate: it or a copy of it is like {partner} (set {row['exclude_set']}, {row['score']:.3f})"
    if facts.cluster is not None:
        yield f"cluster: flat {facts.cluster}" + (
            "" if facts.levels is None else f"; rebalancing, finest first: {', '.join(map(str, facts.levels))}"
        )
    yield from tell_picks(facts, names)
    if SEEDS in roles and facts.brought_count:
        yield f"as a seed it brought {say(facts.brought_count, 'pick')}"
        yield from list_picks(facts.brought, "id", names, facts.brought_count)
    for file, cluster in facts.row.rows():
        yield f"in the dataset: {Path(file).parent.name}/{Path(file).name}, cluster {cluster}"


def tell_file(row: dict[str, Any], names: dict[str, str], stages: list[str]) -> Iterator[str]:
    """Say what became of one file: every stage that it passed, and the one at which it left."""
    yield f"file {row['role']} {row['source']}: {row['path']}"
    stage = row["stage"]
    passed = stages[: stages.index(stage)] if stage in stages else []
    if row["role"] == SEEDS:
        passed = [stage for stage in passed if stage not in ("retrieve", "rebalance")]
    if passed:
        yield f"  passed {', '.join(passed)}"
    if row["status"] == KEPT:
        yield f"  {KEPT} at {stage}"
        return
    score = "" if row["score"] is None else f" ({row['score']:.3f})"
    yield f"  {DROPPED} at {stage}: {row['reason']}{score}"
    partner = row["partner_id"]
    if partner == row["id"] and partner is not None:
        yield "  its bytes are those of the other file"
    elif partner is not None:
        yield f"  because of {name_of(partner, names)}"


def tell_moderation(moderated: pl.DataFrame) -> Iterator[str]:
    """Say what the moderation models say."""
    for nsfw, faces in moderated.select("nsfw", "faces").rows():
        said = [] if nsfw is None else [f"score for unsafe content {nsfw:.3f}"]
        said += [] if faces is None else [f"{say(len(faces), 'face')}"]
        yield f"moderate: {', '.join(said) or 'the models gave nothing'}"


def tell_group(identity: str | None, facts: Facts, names: dict[str, str]) -> Iterator[str]:
    """Say which images are copies of it."""
    if not facts.group_size:
        return
    mine = facts.group.row(0, named=True)
    stands = "it stands" if mine["representative"] == identity else f"{name_of(mine['representative'], names)} stands"
    cut = "" if mine["cut"] is None else f"; part of a larger group, cut at {mine['cut']:.2f}"
    if facts.group_size == 1:
        yield f"copies: none{cut}"
        return
    yield f"copies: {say(facts.group_size - 1, 'other')}; {stands} for them (beside each, how alike it is){cut}"
    yield from list_images(facts.group[1:], "id", "score", names, facts.group_size - 1)


def tell_picks(facts: Facts, names: dict[str, str]) -> Iterator[str]:
    """Say which seeds brought it."""
    if facts.picks:
        yield f"retrieve: chosen {say(facts.picks, 'time')}, by"
        yield from list_picks(facts.brought_by, "seed_id", names, facts.picks)


def list_picks(picks: pl.DataFrame, column: str, names: dict[str, str], total: int) -> Iterator[str]:
    """Yield picks one by one: similarity, rank, the image and its set."""
    for row in picks.iter_rows(named=True):
        how = "its cluster was chosen" if row["rank"] is None else f"rank {row['rank']}"
        yield f"  {row['similarity']:.3f}  {how}, seed set {row['seed_set']}  {name_of(row[column], names)}"
    yield from say_more(len(picks), total)


def list_images(table: pl.DataFrame, column: str, score: str, names: dict[str, str], total: int) -> Iterator[str]:
    """Yield images one by one with their score."""
    for identity, value in table.select(column, score).rows():
        yield f"  {value:.3f}  {name_of(identity, names)}"
    yield from say_more(len(table), total)


def say(number: int, word: str) -> str:
    """Return a number and what it counts."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def say_more(listed: int, total: int) -> Iterator[str]:
    """Say how many were left out."""
    if total > listed:
        yield f"  and {total - listed:,} more"


def name_of(identity: str, names: dict[str, str]) -> str:
    """Return an image's short id and, where the lineage knows it, its set and path."""
    return f"{identity[:SHORT]} {names.get(identity, '')}".rstrip()
