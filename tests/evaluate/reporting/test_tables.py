import dataclasses

from lvd_evaluate.reporting.tables import build_tables, difference_cell, markdown_tables, markdown_text, value_cell


def test_the_table_shows_values_intervals_differences_and_ties(report_rows):
    text = markdown_tables(report_rows)
    assert "birds: 1,000 train and 600 test images, 10 classes, protocol clean" in text
    assert "difference: ours minus the model of that line" in text
    assert "| model | kNN top-1 (95 %) | linear top-1 (95 %) | difference, kNN | difference, linear |" in text
    assert "| ours | 62.1 (60.1 to 64.1) | 70.2 (68.2 to 72.2) |  |  |" in text
    assert (
        "| pixels | 32.1 (30.1 to 34.1) | 69.2 (67.2 to 71.2) | +30.0 (+27.0 to +33.0) | tie, +1.0 (-2.0 to +4.0) |"
        in text
    )
    assert "| open_clip:X/y | unavailable | unavailable |  |  |" in text


def test_a_published_number_gets_a_column_only_where_there_is_one(report_rows):
    assert "published" not in markdown_tables(report_rows)
    report_rows[0] = dataclasses.replace(report_rows[0], published={"value": 0.79, "source": "paper"})
    text = markdown_tables(report_rows)
    assert "| kNN top-1, published |" in text
    assert "linear top-1, published" not in text
    assert "| ours | 62.1 (60.1 to 64.1) | 79.0 |" in text


def test_limits_are_told(report_rows):
    limited = [dataclasses.replace(row, limited=True) for row in report_rows]
    assert "limited to the first images" in markdown_tables(limited)


def test_other_tasks_and_protocols_get_their_own_tables(report_rows, make_row):
    more = [make_row("ours", "knn", 0.9, task_fingerprint="g"), make_row("ours", "linear", 0.9, protocol="dinov2")]
    assert len(build_tables([*report_rows, *more])) == 3


def test_metres_keep_their_unit_and_say_which_way_is_better(make_row, make_comparison):
    depth = {"metric": "rmse", "unit": "m", "higher_is_better": False}
    worse = make_comparison("pixels", -0.2, "better")
    rows = [make_row("ours", "depth", 0.512, comparisons=[worse], **depth), make_row("pixels", "depth", 0.712, **depth)]
    text = markdown_tables(rows)
    assert "| depth RMSE, m, lower is better (95 %) |" in text
    assert "| pixels | 0.712 (0.692 to 0.732) | -0.200 (-0.230 to -0.170) |" in text


def test_a_probe_with_several_headlines_gets_a_column_for_each_and_chosen_settings_do_not_split_them(make_row):
    def row(spec, head, rate, value):
        setting = {"head": head, "learning_rate": rate}
        return make_row(spec, "depth", value, metric="rmse", unit="m", higher_is_better=False, setting=setting)

    ours = dataclasses.replace(
        row("ours", "lin.1", 0.1, 0.5), comparisons=[{"spec": "pixels", "verdict": "unavailable"}]
    )
    rows = [ours, row("ours", "dpt", 0.1, 0.4), row("pixels", "lin.1", 0.2, 0.9), row("pixels", "dpt", 0.3, 0.8)]
    (table,) = build_tables(rows)
    assert [column.title.split(",")[1] for column in table.columns] == [" lin.1", " dpt"]
    assert [[row.value for row in line.values()] for line in table.lines.values()] == [[0.5, 0.4], [0.9, 0.8]]


def test_one_metric_per_setting_is_shown_the_probes_own_or_the_only_headline(make_row):
    both = [make_row("ours", "knn", 0.4, metric="mean_class"), make_row("ours", "knn", 0.6)]
    assert [column.metric for column in build_tables(both)[0].columns] == ["top1"]
    single = [both[0], dataclasses.replace(both[1], headline=False)]
    assert "kNN class mean" in markdown_tables(single)
    foreign = [make_row("ours", "tracking", 0.6, metric="j_and_f"), make_row("ours", "tracking", 0.7, metric="j")]
    assert [column.title for column in build_tables(foreign)[0].columns] == ["tracking j_and_f"]


def test_the_latest_run_of_a_probe_wins(make_row):
    rows = [
        make_row("ours", "knn", 0.4, setting={"k": 5}, run="a"),
        make_row("ours", "knn", 0.6, setting={"k": 9}, run="b"),
    ]
    assert [[row.value for row in line.values()] for line in build_tables(rows)[0].lines.values()] == [[0.6]]


def test_test_sets_of_unlike_size_stand_in_the_heads(make_row):
    sets = {"sketch": 50, "imagenet-a": 70}
    rows = [make_row("ours", "robustness", 0.5, setting={"set": name}, n_test=n) for name, n in sets.items()]
    text = markdown_tables(rows)
    assert "robustness top-1, sketch, n = 50" in text
    assert "robustness top-1, imagenet-a, n = 70" in text
    assert "several sets of test images" in text


def test_queries_are_called_queries(make_row):
    row = make_row("ours", "retrieval", 0.5, metric="map", units="queries", n_classes=0, n_test=70, n_train=4993)
    assert "4,993 images in the database, 70 queries, protocol" in markdown_tables([row])


def test_no_difference_no_words(report_rows):
    assert difference_cell(report_rows[0], "other") == ""
    assert difference_cell(None, "pixels") == ""


def test_a_value_without_interval_or_without_value_still_says_something(make_row):
    assert value_cell(make_row("ours", "knn", 0.5, ci_low=None, ci_high=None)) == "50.0"
    assert value_cell(make_row("ours", "knn", None)) == "undefined"
    assert value_cell(None) == ""


def test_names_cannot_break_out_of_a_markdown_table():
    assert markdown_text("<script>a|b\n`c`&") == "&lt;script&gt;a\\|b \\`c\\`&amp;"
