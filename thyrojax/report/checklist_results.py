"""Answers to checklist items on evaluation, results and limits."""

from __future__ import annotations

from thyrojax.report.facts import Facts
from thyrojax.report.markup import plural
from thyrojax.report.wording import MEASURES, capital, measured, percent, sentence

# Tables of an analysis that vary what the main figures hold fixed.
_VARIED = {
    "comparison": "several models on the same cases",
    "size_groups": "groups of size",
    "features": "sonographic features",
    "odds_ratios": "odds of a wrong call by feature",
    "patient_level": "patients instead of images",
    "cutoffs": "other cutoffs",
}
_ERRORS = ("size_groups", "features", "odds_ratios")
_TESTS = {
    "comparison": "models by DeLong's paired test and McNemar's exact test, Holm-corrected",
    "features": "features by Pearson's chi-squared and an exact test, Holm and "
    "Benjamini-Hochberg beside",
    "odds_ratios": "odds ratios by logistic regression, Firth's estimate beside",
    "readers": "model and reader by McNemar's exact test",
}
_METHODS = {
    "gradcam": "Grad-CAM",
    "smoothgrad": "SmoothGrad",
    "integrated-gradients": "Integrated gradients",
}
# Below it, whatever is said of a class rests on few cases.
_FEW = 100


def abstract_results(facts: Facts) -> str | None:
    """Sizes and the main figures."""
    figures = _figures(facts, MEASURES[0], *MEASURES[2:4])
    size = _test_size(facts)
    return None if figures is None or size is None else f"{size}: {figures}."


def evaluation_cases(facts: Facts) -> str | None:
    """Cases, patients and classes of the test part."""
    size = _test_size(facts)
    return None if size is None else f"{size}."


def sample_size(facts: Facts) -> str | None:
    """How many test cases, and how wide that leaves the intervals."""
    size = _test_size(facts)
    if size is None:
        return None
    widths = []
    for name, title, of_hundred in (MEASURES[0], *MEASURES[2:4]):
        ends = facts.interval(name)
        if ends is not None:
            width = ends[1] - ends[0]
            widths.append(f"{title} {percent(width) if of_hundred else f'{width:.3f}'}")
    told = f" Width of the 95 % intervals: {', '.join(widths)}." if widths else ""
    table = " Other sizes: table sample_size." if "sample_size" in facts.tables else ""
    return f"{size}.{told}{table}"


def cutoff(facts: Facts) -> str | None:
    """The cutoff and where it is from."""
    value = facts.figure("cutoff")
    origin = (facts.metrics or {}).get("cutoff_from")
    if value is None or not origin:
        return None
    called = "positive" if facts.label_names is None else f"“{facts.label_names[1]}”"
    return f"A {facts.unit} is called {called} when its score is {value:.3f} or more ({origin})."


def output(facts: Facts) -> str | None:
    """Score and call."""
    at = cutoff(facts)
    if at is None or facts.label_names is None:
        return None
    return f"A score from 0 to 1, the probability of “{facts.label_names[1]}”. {at}"


def prediction(facts: Facts) -> str | None:
    """How a score is computed."""
    if facts.config is None:
        return None
    step = facts.count("step")
    checkpoint = "a checkpoint of the run" if step is None else f"the checkpoint of step {step}"
    return (
        f"`thyrojax evaluate` on {checkpoint}: softmax of the two outputs, one window for each "
        f"{facts.unit}; for a new image `thyrojax predict`."
    )


def measures(facts: Facts) -> str | None:
    """The measures that have a value, and the plots."""
    told = [title for name, title, _ in MEASURES if facts.figure(name) is not None]
    told += ["Brier score"] if facts.figure("brier") is not None else []
    told += ["expected calibration error"] if facts.figure("ece") is not None else []
    if not told:
        return None
    plots = ["ROC curve"] if facts.figure("auc") is not None else []
    plots += ["reliability curve"] if facts.figure("brier") is not None else []
    plots += ["decision curve"] if "decision_curve" in facts.tables else []
    tables = f" Tables: {', '.join(facts.tables)}." if facts.tables else ""
    return f"{sentence(', '.join(told))} Plots: {', '.join(plots) or 'cross-tabulation'}.{tables}"


def uncertainty(facts: Facts) -> str | None:
    """Methods of the intervals and tests."""
    if facts.metrics is None or facts.interval("sensitivity") is None:
        return None
    method = facts.metrics.get("auc_ci_method")
    plain = f"AUC by {method}, " if method else ""
    plain += f"proportions by {_proportion_method(facts)}"
    ends = facts.interval("sensitivity")
    told = f"95 % intervals: {plain}"
    if ends is not None and ends[2]:
        told = (
            "95 % intervals by a bootstrap over patients, who may have several images; beside "
            f"them, as if images were independent: {plain}"
        )
    tests = [words for name, words in _TESTS.items() if name in facts.tables]
    compared = f" Tests: {'; '.join(tests)}." if tests else ""
    note = facts.metrics.get("intervals_note")
    warning = f" {sentence(str(note))}" if note and not (ends and ends[2]) else ""
    return f"{told}.{warning}{compared}"


def variability(facts: Facts) -> str | None:
    """Analyses beside the main one."""
    told = [f"{words} (table {name})" for name, words in _VARIED.items() if name in facts.tables]
    return f"By {', '.join(told)}." if told else None


def error_analysis(facts: Facts) -> str | None:
    """Where the errors lie, where an analysis looked."""
    told = [f"{_VARIED[name]} (table {name})" for name in _ERRORS if name in facts.tables]
    counts = failures(facts)
    return f"{counts} By {', '.join(told)}." if told and counts else None


def explanations(facts: Facts) -> str | None:
    """Maps in the gallery, what they lie on, and whether they follow the weights."""
    if not facts.n_maps and facts.explained is None:
        return None
    told = []
    if facts.n_maps:
        layer = f" of {facts.map_layer}" if facts.map_layer else ""
        told.append(f"Grad-CAM{layer} for {plural(facts.n_maps, 'case')} of the gallery")
    if facts.explained is not None:
        method, inside, share, n = facts.explained
        told.append(
            f"{_METHODS.get(method, method)} over {plural(n, 'case')} of the test part: a median "
            f"of {percent(inside)} of a map lies in the box, which has {percent(share)} of the "
            "window"
        )
    told.append(
        "whether the maps follow the weights was not checked"
        if facts.sanity is None
        else "with every layer made random, the maps' rank correlation with before is "
        f"{facts.sanity:.2f}"
    )
    return " ".join(sentence(words) for words in told)


def internal_test(facts: Facts) -> str | None:
    """The test part of the same source."""
    size = _test_size(facts)
    if size is None or facts.source is None:
        return None
    return f"{size}, of the same source ({facts.source}) as the training part and not used in it."


def performance(facts: Facts) -> str | None:
    """Every measure with its interval."""
    figures = _figures(facts, *MEASURES)
    value = facts.figure("cutoff")
    if figures is None or value is None:
        return None
    beside = " Beside the reader: table readers." if "readers" in facts.tables else ""
    return f"At cutoff {value:.3f}: {figures}.{_calibration(facts)}{beside}"


def performance_by_part(facts: Facts) -> str | None:
    """Test figures, beside the validation AUC that chose the checkpoint."""
    figures = performance(facts)
    if figures is None:
        return None
    step = facts.count("step")
    lines = {line.get("step"): line.get("val_auc") for line in facts.validations}
    chosen = lines.get(step)
    if not isinstance(chosen, float):
        return f"{capital(facts.reported)}. {figures}"
    return f"{capital(facts.reported)}. {figures} Validation part: AUC {chosen:.3f} at step {step}."


def performance_in_groups(facts: Facts) -> str | None:
    """Every measure, and where subgroups are found."""
    figures = performance(facts)
    if figures is None or "size_groups" not in facts.tables:
        return figures
    return f"{figures} By size group: table size_groups."


def crosstabulation(facts: Facts) -> str | None:
    """Calls by truth."""
    names = ("true_positive", "false_negative", "true_negative", "false_positive")
    counts = [facts.count(name) for name in names]
    if None in counts or facts.label_names is None:
        return None
    hit, missed, spared, alarmed = counts
    negative, positive = facts.label_names
    return (
        f"Of {facts.count('n_positive')} {positive}, {hit} called {positive} and {missed} "
        f"{negative}; of {facts.count('n_negative')} {negative}, {spared} called {negative} and "
        f"{alarmed} {positive}."
    )


def failures(facts: Facts) -> str | None:
    """How many calls are wrong, and where examples are."""
    n = facts.count("n")
    missed, alarmed = facts.count("false_negative"), facts.count("false_positive")
    if n is None or missed is None or alarmed is None:
        return None
    shown = (
        " The surest wrong calls are in the gallery."
        if facts.n_examples and missed + alarmed
        else ""
    )
    return (
        f"{missed + alarmed} of {n} called wrong: {missed} false negative, {alarmed} false "
        f"positive.{shown}"
    )


def prevalence(facts: Facts) -> str | None:
    """Share of class 1 in the test part."""
    n, positive = facts.count("n"), facts.count("n_positive")
    if not n or positive is None or facts.label_names is None:
        return None
    return (
        f"Share of “{facts.label_names[1]}” in the {facts.reported}: {percent(positive / n)} "
        f"({positive} of {n})."
    )


def indeterminate(facts: Facts) -> str | None:
    """Every case has a score."""
    n = facts.count("n")
    if n is None:
        return None
    return f"The index test gave each of the {plural(n, facts.unit)} a score; none is undecided."


def clusters(facts: Facts) -> str | None:
    """Several cases of a patient."""
    n, patients = facts.count("n"), facts.count("n_patients")
    ends = facts.interval("sensitivity")
    if n is None or patients is None or ends is None:
        return None
    if n == patients:
        return f"One {facts.unit} for each patient: no clusters by patient."
    how = (
        "intervals by a bootstrap over patients"
        if ends[2]
        else "the intervals take them as independent, and are too short to that extent"
    )
    return f"{plural(n, facts.unit)} of {plural(patients, 'patient')}: {how}."


def cluster_results(facts: Facts) -> str | None:
    """Results by patient, where an analysis has them."""
    if "patient_level" not in facts.tables:
        return None
    return "By patient, mean and maximum over the images: table patient_level."


def updating(facts: Facts) -> str | None:
    """Recalibration, or that there was none."""
    if facts.recalibrated:
        return (
            "Temperature scaling and isotonic regression, fitted on the validation part, are set "
            "beside the scores; all other figures are of the scores as the model gives them."
        )
    return None if facts.config is None else "No updating: scores are used as the model gives them."


def updating_results(facts: Facts) -> str | None:
    """Where the recalibrated figures are."""
    if facts.recalibrated:
        return "Before and after: table calibration_summary."
    return None if facts.config is None else "The model was not updated."


def limitations(facts: Facts) -> str | None:
    """What the files themselves show to limit the study."""
    told = list(_limits(facts))
    return " ".join(sentence(limit) for limit in told) if told else None


def _figures(facts: Facts, *wanted: tuple[str, str, bool]) -> str | None:
    told = [measured(facts, *measure) for measure in wanted]
    found = [words for words in told if words is not None]
    return ", ".join(found) if found else None


def _test_size(facts: Facts) -> str | None:
    n, patients = facts.count("n"), facts.count("n_patients")
    positive, negative = facts.count("n_positive"), facts.count("n_negative")
    if None in (n, patients, positive, negative) or facts.label_names is None:
        return None
    return (
        f"{capital(facts.reported)} of {plural(n or 0, facts.unit)} of "
        f"{plural(patients or 0, 'patient')}, {negative} {facts.label_names[0]} and {positive} "
        f"{facts.label_names[1]}"
    )


def _calibration(facts: Facts) -> str:
    brier, error = facts.figure("brier"), facts.figure("ece")
    told = [] if brier is None else [f"Brier score {brier:.3f}"]
    told += [] if error is None else [f"expected calibration error {error:.3f}"]
    return f" {sentence(', '.join(told))}" if told else ""


def _proportion_method(facts: Facts) -> str:
    """As the table of the operating point says; Wilson's score method where there is no table."""
    table = facts.tables.get("operating_point")
    for row in table.records() if table is not None else ():
        if row.get("metric") == "sensitivity" and row.get("ci_method"):
            return str(row["ci_method"])
    return "Wilson's score method"


def _limits(facts: Facts) -> list[str]:
    limits = list(facts.warnings)
    if facts.source == "phantom":
        limits.append("the images are simulated: nothing follows for patients")
    if facts.source == "ddti":
        limits.append("the reference standard is a TI-RADS grade, no pathology")
    if facts.source == "busbra":
        limits.append("the images are of breast lesions: nothing follows for the thyroid")
    if facts.source is not None:
        limits.append("the test part is of the same source as the training part")
    positive, negative = facts.count("n_positive"), facts.count("n_negative")
    if positive is not None and negative is not None and min(positive, negative) < _FEW:
        limits.append(
            f"the smaller class of the {facts.reported} has {min(positive, negative)} cases"
        )
    note = (facts.metrics or {}).get("intervals_note")
    ends = facts.interval("sensitivity")
    if note and not (ends and ends[2]):
        limits.append(str(note))
    return limits
