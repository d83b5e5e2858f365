"""How each figure of a study was had, in plain words, with where the method is from."""

from __future__ import annotations

from thyrojax.analysis.study import Study
from thyrojax.report.study_facts import patients_repeat

_ALWAYS = (
    "A case is called positive when its score is at or above the cutoff. All intervals are 95 % "
    "intervals and all P values two-sided.",
    "Shares (accuracy, sensitivity, specificity, predictive values): Wilson's score interval "
    "(Wilson 1927, J Am Stat Assoc 22:209), or the exact interval of Clopper and Pearson (1934, "
    "Biometrika 26:404) where the table says so.",
)
_PATIENTS = (
    "Several images of a patient are not independent. The cluster bootstrap draws patients, not "
    "images, with replacement, takes all images of each patient drawn, and computes the figure "
    "anew; the interval is the middle 95 % of the results (Field and Welsh 2007, J R Stat Soc B "
    "69:369)."
)
_OF_TABLE: dict[str, tuple[str, ...]] = {
    "operating_point": (
        "Likelihood ratios: interval on the logarithmic scale (Simel, Samsa and Matchar 1991, J "
        "Clin Epidemiol 44:763). Predictive values at a stated prevalence: logit interval "
        "(Mercaldo, Lau and Zhou 2007, Stat Med 26:2170).",
    ),
    "cutoffs": (
        "Youden's cutoff has the largest sensitivity + specificity - 1 (Youden 1950, Cancer 3:32). "
        "Cutoffs are chosen on validation cases and applied to the reported ones, unless the "
        "table calls them optimistic.",
    ),
    "roc": (
        "ROC curve: every distinct score as a cutoff. The band is pointwise, from resampled "
        "patients; it does not hold for the whole curve at once.",
        "Area under the curve (AUC, Az): DeLong's variance (DeLong, DeLong and Clarke-Pearson "
        "1988, Biometrics 44:837) by the fast algorithm of Sun and Xu (2014, IEEE Signal Process "
        "Lett 21:1389), interval on the logit scale. Partial areas are standardised as McClish "
        "does (1989, Med Decis Making 9:190).",
    ),
    "precision_recall": (
        "Average precision: precision at each positive case's own score, averaged; it depends on "
        "the share of positives in these cases.",
    ),
    "comparison": (
        "Models are compared on the same cases: areas by the paired DeLong test, accuracy, "
        "sensitivity and specificity by the exact McNemar test (McNemar 1947, Psychometrika "
        "12:153), each model with the best one. Within each measure the P values are corrected "
        "for their number (Holm 1979, Scand J Stat 6:65).",
    ),
    "features": (
        "Categories of a feature: Pearson's chi-squared test without continuity correction over "
        "the categories that occur, and the exact test of Fisher, Freeman and Halton (Freeman and "
        "Halton 1951, Biometrika 38:141). Where an expected count is below 5 the chi-squared test "
        "is not to be relied on: read the exact one. P values corrected for the number of tests "
        "by Holm, and for the false discovery rate by Benjamini and Hochberg (1995, J R Stat Soc "
        "B 57:289).",
    ),
    "odds_ratios": (
        "Misdiagnosis: logistic regression of a wrong call (1) or a right one (0) on each feature "
        "alone, and on all together. Intervals are Wald's; profile-likelihood intervals stand "
        "beside them, as Wald's are poor in small groups.",
        "Complete separation: where a group has no error at all (or only errors), no odds ratio "
        "can be estimated, and the ordinary fit gives 0 or infinity. Firth's penalised estimate "
        "(Firth 1993, Biometrika 80:27; Heinze and Schemper 2002, Stat Med 21:2409) is finite and "
        "stands beside it.",
    ),
    "readers": (
        "Reader and model saw the same cases: exact McNemar test for each share. Agreement beyond "
        "chance: Cohen's kappa (Cohen 1960, Educ Psychol Meas 20:37).",
    ),
    "calibration": (
        "Calibration: observed share of positives in bins of nearly equal numbers of cases; Brier "
        "score (Brier 1950, Mon Weather Rev 78:1).",
    ),
    "calibration_summary": (
        "Calibration slope and intercept: logistic regression on the score's logit (Cox 1958, "
        "Biometrika 45:562; slope 1 and intercept 0 are perfect). Recalibration by one temperature "
        "(Guo et al. 2017, ICML) and by isotonic regression, both fitted on validation cases "
        "only. Test of calibration: Spiegelhalter (1986, Stat Med 5:421).",
    ),
    "decision_curve": (
        "Decision curve: net benefit = share of true positives - share of false positives x "
        "odds of the threshold (Vickers and Elkin 2006, Med Decis Making 26:565).",
    ),
    "sample_size": (
        "Sample size: the width of the interval that the same figures would have in more cases.",
    ),
}
_PAPER = (
    "The form of the tables follows Guan et al. 2019, Ann Transl Med 7(7):137, doi "
    "10.21037/atm.2019.04.34."
)


def sentences(study: Study) -> list[str]:
    """One paragraph for each method that the study used, in the report's order."""
    found = list(_ALWAYS)
    if patients_repeat(study.metrics):
        found.append(_PATIENTS)
    for name, paragraphs in _OF_TABLE.items():
        if name in study.tables:
            found += paragraphs
    return [*found, _PAPER]
